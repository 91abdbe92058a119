{{/* Services with a public port: whose requests they accept, and how they are reached. */}}

{{/* One file for all services of a release, in `global`. */}}
{{- define "kafkatrace.tenants" -}}
{{- mergeOverwrite (deepCopy .Values.tenants) (deepCopy (dig "tenants" dict (.Values.global | default dict))) | toYaml -}}
{{- end -}}

{{- define "kafkatrace.tenants.name" -}}
{{- include "kafkatrace.material.name" (list . (include "kafkatrace.tenants" . | fromYaml) "tenants") -}}
{{- end -}}

{{/* Takes (list context opsPort). */}}
{{- define "kafkatrace.access.env" -}}
{{ include "kafkatrace.env" . }}
{{- with index . 0 }}
- name: AUTH
  value: {{ ternary "on" "off" .Values.auth.enabled | quote }}
{{- if .Values.auth.enabled }}
- name: TENANTS_FILE
  value: /etc/kafkatrace/tenants/tenants.json
{{- end }}
{{- include "kafkatrace.env.own" . }}
{{- end }}
{{- end -}}

{{- define "kafkatrace.access.mounts" -}}
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

{{- define "kafkatrace.access.volumes" -}}
{{ include "kafkatrace.volumes" . }}
{{- if .Values.auth.enabled }}
- name: tenants
  secret:
    secretName: {{ include "kafkatrace.tenants.name" . }}
    defaultMode: 288
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Takes (list context annotations). */}}
{{- define "kafkatrace.access.secrets" -}}
{{- include "kafkatrace.secrets" . -}}
{{- include "kafkatrace.material.object" (list (index . 0) (include "kafkatrace.tenants" (index . 0) | fromYaml) "tenants" (index . 1)) -}}
{{- end -}}

{{/* Gives a line a fault. */}}
{{- define "kafkatrace.access.faults" -}}
{{- $environment := include "kafkatrace.environment" . -}}
{{- $tenants := include "kafkatrace.tenants.name" . -}}
{{- include "kafkatrace.faults" (list . (list (list "tenants" (include "kafkatrace.tenants" . | fromYaml)))) }}
{{- if and (not .Values.auth.enabled) (ne $environment "development") }}
  - auth.enabled is false, and environment is {{ $environment }}: only development serves requests without a key.
{{- end }}
{{- if and .Values.auth.enabled (not $tenants) }}
  - auth.enabled is true, and tenants names no source of tenants.json: set tenants.existingSecret or tenants.externalSecret, in the umbrella chart below global.
{{- end }}
{{- if and (not .Values.auth.enabled) $tenants }}
  - tenants is set, and auth.enabled is false does not read it: remove one.
{{- end }}
{{- if and .Values.ingress.enabled .Values.httpRoute.enabled }}
  - ingress.enabled and httpRoute.enabled are both true: two ways in, of which limits and TLS would have to agree. Enable one.
{{- end }}
{{- if and .Values.ingress.enabled (empty .Values.ingress.hosts) }}
  - ingress.enabled needs ingress.hosts: without a host it takes every host's requests.
{{- end }}
{{- if and .Values.httpRoute.enabled (empty .Values.httpRoute.parentRefs) }}
  - httpRoute.enabled needs httpRoute.parentRefs: a route without a gateway serves nobody.
{{- end }}
{{- end -}}

{{- define "kafkatrace.access.ingress" -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "kafkatrace.metadata" . | nindent 2 }}
  {{- with .Values.ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .Values.ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .Values.ingress.tlsSecret }}
  tls:
    - secretName: {{ . }}
      hosts:
        {{- toYaml $.Values.ingress.hosts | nindent 8 }}
  {{- end }}
  rules:
    {{- range .Values.ingress.hosts }}
    - host: {{ . | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ include "kafkatrace.fullname" $ }}
                port:
                  name: {{ (include "kafkatrace.tls.service" $ | fromYaml).name }}
    {{- end }}
{{- end -}}
