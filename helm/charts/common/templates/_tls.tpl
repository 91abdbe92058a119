{{/* The certificate of a service's own ports. */}}
{{- define "kafkatrace.tls.name" -}}
{{- include "kafkatrace.material.name" (list . (.Values.tls | default dict) "tls") -}}
{{- end -}}

{{/* Whether the operations port speaks TLS: a consumer has no other. */}}
{{- define "kafkatrace.tls.ops" -}}
{{- if and (include "kafkatrace.tls.name" .) (dig "ops" (eq .Chart.Name "consumer") .Values.tls) -}}true{{- end -}}
{{- end -}}

{{/* Empty, or begins with a new line. */}}
{{- define "kafkatrace.tls.env" -}}
{{- if include "kafkatrace.tls.name" . }}
- name: TLS_CERTIFICATE_FILE
  value: /etc/kafkatrace/tls/tls.crt
- name: TLS_KEY_FILE
  value: /etc/kafkatrace/tls/tls.key
- name: OPS_TLS
  value: {{ ternary "on" "off" (eq (include "kafkatrace.tls.ops" .) "true") | quote }}
{{- if .Values.tls.clientCaSecret }}
- name: TLS_CLIENT_CA_FILE
  value: /etc/kafkatrace/client-ca/ca.crt
{{- end }}
{{- end }}
{{- end -}}

{{/* Directories and not single files, which Kubernetes would not change in a running pod. */}}
{{- define "kafkatrace.tls.mounts" -}}
{{- if include "kafkatrace.tls.name" . }}
- name: tls
  mountPath: /etc/kafkatrace/tls
  readOnly: true
{{- if .Values.tls.clientCaSecret }}
- name: client-ca
  mountPath: /etc/kafkatrace/client-ca
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{- define "kafkatrace.tls.volumes" -}}
{{- with include "kafkatrace.tls.name" . }}
- name: tls
  secret:
    secretName: {{ . }}
    # Only fsGroup may read it.
    defaultMode: 288
{{- with $.Values.tls.clientCaSecret }}
- name: client-ca
  secret:
    secretName: {{ . }}
    # Of a Secret that cert-manager makes, the key is not needed.
    items: [{key: ca.crt, path: ca.crt}]
    defaultMode: 288
{{- end }}
{{- end }}
{{- end -}}

{{/* Gives a line a fault. */}}
{{- define "kafkatrace.tls.faults" -}}
{{- $tls := .Values.tls | default dict -}}
{{- if and (not (include "kafkatrace.tls.name" .)) (or $tls.ops $tls.clientCaSecret) }}
  - tls.ops or tls.clientCaSecret is set, and tls names no source of the certificate: set tls.existingSecret or tls.externalSecret.
{{- end }}
{{- if and (include "kafkatrace.tls.ops" .) .Values.serviceMonitor.enabled (empty .Values.serviceMonitor.tlsConfig) }}
  - serviceMonitor.enabled needs serviceMonitor.tlsConfig, since the operations port speaks TLS: the name in the certificate and its authority.
{{- end }}
{{- end -}}

{{/* How the public port's Service names it. */}}
{{- define "kafkatrace.tls.service" -}}
{{- if include "kafkatrace.tls.name" . -}}
{name: https, port: 443, targetPort: http, appProtocol: https}
{{- else -}}
{name: http, port: 80, targetPort: http, appProtocol: http}
{{- end -}}
{{- end -}}
