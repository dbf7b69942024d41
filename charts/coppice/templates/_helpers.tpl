{{- define "coppice.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Cluster-wide objects: two releases of one name in two namespaces must not share them. */}}
{{- define "coppice.clusterName" -}}
{{- printf "%s.%s" (include "coppice.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "coppice.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "coppice.fullname" .) -}}
{{- end -}}

{{- define "coppice.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "coppice.labels" -}}
{{ include "coppice.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Those and the ones that a Prometheus selects its monitors and rules by. */}}
{{- define "coppice.monitoringLabels" -}}
{{ include "coppice.labels" . }}
{{- with .Values.monitoring.additionalLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* An image of the values: repository@digest, or repository:tag. */}}
{{- define "coppice.image" -}}
{{- with .image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.version) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the operator does, and nothing more: tests/integration/chart compares these with what it is seen to do. */}}
{{- define "coppice.rules" -}}
# Its own. Of a PruneJob only the status; ModelRollouts it makes, keeps as their PruneJob says, and gives coppice.dev/record.
- apiGroups: [coppice.dev]
  resources: [prunejobs]
  verbs: [list, watch]
- apiGroups: [coppice.dev]
  resources: [modelrollouts]
  verbs: [get, list, watch, create, patch]
- apiGroups: [coppice.dev]
  resources: [prunejobs/status, modelrollouts/status]
  verbs: [update]
# Children block the deletion of their owner; the API server lets only those do so who may change its finalizers.
- apiGroups: [coppice.dev]
  resources: [prunejobs/finalizers]
  verbs: [update]
# The runs. Patched to suspend and resume; deleted to suspend one that its queue would start again.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# By which the pods of one run on several nodes find each other.
- apiGroups: [""]
  resources: [services]
  verbs: [create]
# Why a run does not start, and how it ended.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Targets of rollouts: one variable of one container.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [list, watch, patch]
# Targets of rollouts where KServe is installed: storageUri. The API server takes the rule without KServe too.
- apiGroups: [serving.kserve.io]
  resources: [inferenceservices]
  verbs: [list, watch, patch]
# What `kubectl describe` shows of a PruneJob or a ModelRollout.
- apiGroups: [""]
  resources: [events]
  verbs: [get, create, patch]
{{- end -}}

{{/* With rbac.readSecrets: credentials that a ModelRollout names, for Git or Prometheus; one by one, never a list. */}}
{{- define "coppice.secretRules" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- end -}}

{{/* Where the policies hold: in the namespaces that the operator works in. */}}
{{- define "coppice.policyNamespaces" -}}
{{- with .Values.namespaces -}}
matchResources:
  namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values: {{ toJson . }}
{{- end -}}
{{- end -}}
