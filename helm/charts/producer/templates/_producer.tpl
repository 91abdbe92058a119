{{/* What the umbrella's topics job has from the producer, too. */}}
{{- define "producer.env" -}}
{{ include "kafkatrace.env" (list . 9080) }}
- name: AUTH
  value: {{ ternary "on" "off" .Values.auth.enabled | quote }}
{{- if .Values.auth.enabled }}
- name: TENANTS_FILE
  value: /etc/kafkatrace/tenants/tenants.json
{{- end }}
{{- include "kafkatrace.env.own" . }}
{{- end -}}

{{- define "producer.mounts" -}}
{{ include "kafkatrace.mounts" . }}
{{- if .Values.auth.enabled }}
- name: tenants
  mountPath: /etc/kafkatrace/tenants
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "producer.volumes" -}}
{{ include "kafkatrace.volumes" . }}
{{- if .Values.auth.enabled }}
- name: tenants
  secret:
    secretName: {{ include "kafkatrace.material.name" (list . .Values.tenants "tenants") }}
    defaultMode: 288
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Takes (list context annotations). */}}
{{- define "producer.secrets" -}}
{{- include "kafkatrace.secrets" . -}}
{{- include "kafkatrace.material.object" (list (index . 0) (index . 0).Values.tenants "tenants" (index . 1)) -}}
{{- end -}}
