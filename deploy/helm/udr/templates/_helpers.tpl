{{- define "udr.name" -}}
{{- if contains "udr" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-udr" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "udr.selector" -}}
app.kubernetes.io/name: udr
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "udr.labels" -}}
{{ include "udr.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "udr.head" -}}
metadata:
  name: {{ include "udr.name" . }}
  labels: {{- include "udr.labels" . | nindent 4 }}
{{- end }}
