{{/* The name of everything, and what tells the release's pods from others. */}}
{{- define "ssmtunneld.name" -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}
{{- define "ssmtunneld.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "ssmtunneld.labels" -}}
{{ include "ssmtunneld.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
{{- define "ssmtunneld.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "ssmtunneld.name" .) "default" .Values.serviceAccount.create) -}}
{{- end }}
