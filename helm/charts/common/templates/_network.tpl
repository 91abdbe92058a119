{{/*
Rules of network policies. Selecting the pods denies them everything; what follows is all that they may. An empty list of peers opens
nothing: no rule is made of it.
*/}}

{{/* Who reaches the operations port. Takes (list context port). */}}
{{- define "kafkatrace.ingress.ops" -}}
{{- $context := index . 0 -}}
{{- $port := index . 1 -}}
{{- with $context.Values.networkPolicy.monitoring }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - {protocol: TCP, port: {{ $port }}}
{{- end }}
- from:
    - podSelector:
        matchLabels:
          app.kubernetes.io/name: {{ $context.Chart.Name }}-test
          app.kubernetes.io/instance: {{ $context.Release.Name | quote }}
  ports:
    - {protocol: TCP, port: {{ $port }}}
{{- end -}}

{{- define "kafkatrace.egress.dns" -}}
{{- with .Values.networkPolicy.dns }}
- to:
    {{- toYaml . | nindent 4 }}
  ports:
    {{- /* 5353 is OpenShift's: what counts is the port of the pod, not that of the Service. TCP is for answers that are too long for UDP. */}}
    {{- range list 53 5353 }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "kafkatrace.egress" -}}
{{- include "kafkatrace.egress.dns" . }}
{{- with .Values.networkPolicy.kafka.peers }}
- to:
    {{- toYaml . | nindent 4 }}
  ports:
    {{- range $.Values.networkPolicy.kafka.ports }}
    - {protocol: TCP, port: {{ int . }}}
    {{- end }}
{{- end }}
{{- with .Values.networkPolicy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}
