-- Health of a PruneJob or a ModelRollout (coppice.dev) for Argo CD, from the conditions that kstatus reads.
-- Without it Argo CD calls every object of an unknown kind Healthy as soon as it exists.
-- Lua 5.1 with the base library alone, as Argo CD runs it.
local waiting_for_a_person = {
  Paused = true,
  Suspended = true,
  WaitingForApproval = true,
  WaitingForMerge = true,
}

local status = obj.status
if status == nil or status.conditions == nil then
  return { status = "Progressing", message = "Waiting for the operator" }
end
if (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  return { status = "Progressing", message = "Waiting for the operator to see the change" }
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
local function holds(kind)
  return found[kind] ~= nil and found[kind].status == "True"
end

-- A rollout that a newer one replaces, and one that was withdrawn and left no target behind, ended as people asked.
local function ended_as_asked(reason)
  if reason == "Superseded" then
    return true
  end
  local spec = obj.spec or {}
  if reason ~= "RolledBack" or not (spec.withdrawn or (spec.rollout or {}).withdrawn) then
    return false
  end
  for _, target in ipairs(status.targets or {}) do
    if target.state == "Blocked" and target.previousValueSet ~= nil then
      return false
    end
  end
  return true
end

local ready = found["Ready"] or {}
local message = ready.message or ""
if holds("Stalled") and ended_as_asked(found["Stalled"].reason) then
  return { status = "Healthy", message = message }
end
if holds("Stalled") then
  return { status = "Degraded", message = found["Stalled"].message or message }
end
if holds("Ready") then
  return { status = "Healthy", message = message }
end
if waiting_for_a_person[ready.reason or ""] then
  return { status = "Suspended", message = message }
end
return { status = "Progressing", message = message }
