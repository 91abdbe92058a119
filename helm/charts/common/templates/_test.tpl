{{/* `helm test`: asks the operations port, as the kubelet does, but through the Service's name and the network policies. */}}
{{- define "kafkatrace.test.metadata" -}}
name: {{ include "kafkatrace.fullname" . }}-test
namespace: {{ .Release.Namespace }}
labels:
  {{- include "kafkatrace.test.labels" . | nindent 2 }}
{{- end -}}

{{- define "kafkatrace.test.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/name: {{ .Chart.Name }}-test
app.kubernetes.io/part-of: kafkatrace
{{- end -}}

{{/* Takes (list context port). */}}
{{- define "kafkatrace.test.pod" -}}
{{- $port := index . 1 -}}
{{- with index . 0 -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "kafkatrace.podSecurityContext" . | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: test
    image: {{ include "kafkatrace.image" . | quote }}
    command:
      - bun
      - -e
      - |
        const answer = await fetch('{{ ternary "https" "http" (eq (include "kafkatrace.tls.ops" .) "true") }}://{{ include "kafkatrace.fullname" . }}-ops:{{ $port }}/readyz', { tls: { rejectUnauthorized: false } })
        console.log(answer.status, await answer.text())
        process.exit(answer.ok ? 0 : 1)
    securityContext:
      {{- include "kafkatrace.securityContext" . | nindent 6 }}
    resources:
      requests: {cpu: 50m, memory: 128Mi}
      limits: {memory: 128Mi}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 16Mi}
{{- end -}}
{{- end -}}

{{/* Takes (list context port). */}}
{{- define "kafkatrace.test.egress" -}}
{{- $port := index . 1 -}}
{{- with index . 0 -}}
{{- include "kafkatrace.egress.dns" . }}
- to:
    - podSelector:
        matchLabels:
          {{- include "kafkatrace.selector" . | nindent 10 }}
  ports:
    - {protocol: TCP, port: {{ $port }}}
{{- end -}}
{{- end -}}
