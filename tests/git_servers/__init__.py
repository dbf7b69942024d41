"""Real git repositories behind real git servers, for tests: git's own programs do the serving.

`https.py` runs git-http-backend (CGI) behind TLS and basic authentication. `ssh.py` is a stand-in for sshd made with
paramiko, which runs git-upload-pack and git-receive-pack. `merge_requests.py` is a stand-in for the GitHub and GitLab
APIs.
"""
