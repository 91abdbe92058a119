{{/* Services with a public port: whose requests they accept, and how they are reached. */}}

{{/* One file for all services of a release, in `global`. */}}
{{- define "kafkatrace.tenants" -}}
{{- mergeOverwrite (deepCopy .Values.tenants) (deepCopy (dig "tenants" dict (.Values.global | default dict))) | toYaml -}}
{{- end -}}

{{- define "kafkatrace.tenants.name" -}}
{{- include "kafkatrace.material.name" (list . (include "kafkatrace.tenants" . | fromYaml) "tenants") -}}
{{- end -}}

{{/* By what people log in; only the console has it. */}}
{{- define "kafkatrace.login" -}}
{{- .Values.login | default (dict "existingSecret" "" "externalSecret" "" "values" dict) | toYaml -}}
{{- end -}}

{{- define "kafkatrace.login.name" -}}
{{- include "kafkatrace.material.name" (list . (include "kafkatrace.login" . | fromYaml) "login") -}}
{{- end -}}

{{/* Takes (list context opsPort). */}}
{{- define "kafkatrace.access.env" -}}
{{ include "kafkatrace.env" . }}
{{- with index . 0 }}
- name: AUTH
  value: {{ ternary (ternary "jwt" "on" .Values.auth.tokens) "off" .Values.auth.enabled | quote }}
{{- if .Values.auth.enabled }}
- name: TENANTS_FILE
  value: /etc/kafkatrace/tenants/tenants.json
{{- end }}
{{- if include "kafkatrace.login.name" . }}
- name: OIDC_CLIENT_SECRET_FILE
  value: /etc/kafkatrace/login/client-secret
- name: SESSION_SECRET_FILE
  value: /etc/kafkatrace/login/session-secret
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
{{- if include "kafkatrace.login.name" . }}
- name: login
  mountPath: /etc/kafkatrace/login
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
{{- with include "kafkatrace.login.name" . }}
- name: login
  secret:
    secretName: {{ . }}
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
{{- include "kafkatrace.material.object" (list (index . 0) (include "kafkatrace.login" (index . 0) | fromYaml) "login" (index . 1)) -}}
{{- end -}}

{{/* Gives a line a fault. */}}
{{- define "kafkatrace.access.faults" -}}
{{- $environment := include "kafkatrace.environment" . -}}
{{- $tenants := include "kafkatrace.tenants.name" . -}}
{{- include "kafkatrace.faults" (list . (list (list "tenants" (include "kafkatrace.tenants" . | fromYaml)) (list "login" (include "kafkatrace.login" . | fromYaml)))) }}
{{- if and (not .Values.auth.enabled) (ne $environment "development") }}
  - auth.enabled is false, and environment is {{ $environment }}: only development serves requests without a key.
{{- end }}
{{- if and .Values.auth.enabled (not $tenants) }}
  - auth.enabled is true, and tenants names no source of tenants.json: set tenants.existingSecret or tenants.externalSecret, in the umbrella chart below global.
{{- end }}
{{- if and .Values.auth.tokens (not .Values.auth.enabled) }}
  - auth.tokens is true, and auth.enabled is false, with which nobody is asked for a token: remove one.
{{- end }}
{{- if and .Values.auth.tokens (not (and .Values.config.JWT_ISSUER .Values.config.JWT_AUDIENCE)) }}
  - auth.tokens is true, and config does not say whose tokens: set config.JWT_ISSUER and config.JWT_AUDIENCE.
{{- end }}
{{- if and (include "kafkatrace.login.name" .) (not (and .Values.auth.tokens .Values.config.OIDC_CLIENT_ID .Values.config.PUBLIC_URL)) }}
  - login is set, and nobody can log in: set auth.tokens, config.OIDC_CLIENT_ID and config.PUBLIC_URL, too.
{{- end }}
{{- if and .Values.config.OIDC_CLIENT_ID (not (include "kafkatrace.login.name" .)) }}
  - config.OIDC_CLIENT_ID is set, and login names no source of client-secret and session-secret.
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
