{{- define "wardgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{- define "wardgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "wardgate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "wardgate.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "wardgate.selector" -}}
app.kubernetes.io/name: {{ include "wardgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- define "wardgate.labels" -}}
app.kubernetes.io/name: {{ include "wardgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: wardgate
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "wardgate.image" -}}
{{- if .image.digest -}}
{{ printf "%s@%s" .image.repository .image.digest }}
{{- else -}}
{{ printf "%s:%s" .image.repository (default .default .image.tag) }}
{{- end -}}
{{- end }}

{{- define "wardgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "wardgate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* What every container may do: nothing but run. */}}
{{- define "wardgate.contained" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
runAsGroup: 65532
runAsNonRoot: true
runAsUser: 65532
{{- end }}

{{- define "wardgate.podContext" -}}
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
runAsGroup: 65532
runAsNonRoot: true
runAsUser: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Seconds a pod may take to end: out of the Service, the calls in flight, the journal. */}}
{{- define "wardgate.drain" -}}
{{- $server := default dict .Values.config.server -}}
{{- ceil (default 30.0 $server.drain_s) | int -}}
{{- end }}

{{/* Names agents, people and monitoring may call the gateway by: what it does not know it refuses. */}}
{{- define "wardgate.hosts" -}}
{{- $server := default dict .Values.config.server -}}
{{- $hosts := default list $server.allowed_hosts -}}
{{- $root := . -}}
{{- $full := include "wardgate.fullname" . -}}
{{- $names := list $full (printf "%s-admin" $full) -}}
{{- if .Values.console.enabled -}}{{- $names = append $names (printf "%s-console" $full) -}}{{- end -}}
{{- range $name := $names -}}
{{- range list "" (printf ".%s" $root.Release.Namespace) (printf ".%s.svc" $root.Release.Namespace) (printf ".%s.svc.%s" $root.Release.Namespace $root.Values.clusterDomain) -}}
{{- $hosts = append $hosts (printf "%s%s" $name .) -}}
{{- end -}}
{{- end -}}
{{- if .Values.service.clusterIP -}}
{{- $ip := .Values.service.clusterIP -}}
{{- $hosts = append $hosts (ternary (printf "[%s]" $ip) $ip (contains ":" $ip)) -}}
{{- end -}}
{{- if .Values.console.ingress.host -}}{{- $hosts = append $hosts .Values.console.ingress.host -}}{{- end -}}
{{- $hosts | uniq | toJson -}}
{{- end }}

{{/* The sections of wardgate.yaml a reload cannot change, and the whole of it. */}}
{{- define "wardgate.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $server := deepCopy (default dict $config.server) -}}
{{- $_ := set $server "host" .Values.listen -}}
{{- $_ := set $server "port" 8700 -}}
{{- $_ := set $server "admin_host" .Values.listen -}}
{{- $_ := set $server "admin_port" 8701 -}}
{{- $_ := set $server "allowed_hosts" (include "wardgate.hosts" . | fromJsonArray) -}}
{{- $_ := set $config "server" $server -}}
{{- $storage := deepCopy (default dict $config.storage) -}}
{{- if eq .Values.storage.engine "sqlite" -}}
{{- $_ := set $storage "path" "/var/lib/wardgate/wardgate.db" -}}
{{- else -}}
{{- $_ := set $storage "url" "${WARDGATE_POSTGRESQL}" -}}
{{- end -}}
{{- $_ := set $config "storage" $storage -}}
{{- if .Values.console.ingress.enabled -}}
{{- $console := deepCopy (default dict $config.console) -}}
{{- if not $console.url -}}{{- $_ := set $console "url" (printf "https://%s/console" .Values.console.ingress.host) -}}{{- end -}}
{{- $_ := set $config "console" $console -}}
{{- end -}}
{{- $policy := deepCopy (default dict $config.policy) -}}
{{- if .Values.policy.configMap -}}{{- $_ := set $policy "path" "/etc/wardgate-policies" -}}{{- end -}}
{{- if .Values.policy.pack -}}{{- $_ := set $policy "pack" .Values.policy.pack -}}{{- end -}}
{{- if ne .Values.policy.engine "embedded" -}}
{{- $_ := set $policy "engine" "opa" -}}
{{- $opa := dict "deadline_ms" .Values.policy.deadlineMs -}}
{{- if eq .Values.policy.engine "sidecar" -}}
{{- $_ := set $opa "socket" "/run/opa/opa.sock" -}}
{{- else -}}
{{- $_ := set $opa "url" .Values.policy.external.url -}}
{{- $_ := set $opa "token_file" "/etc/wardgate-opa/token/token" -}}
{{- if .Values.policy.external.caConfigMap.name -}}{{- $_ := set $opa "ca_file" "/etc/wardgate-opa/ca/ca.crt" -}}{{- end -}}
{{- end -}}
{{- $_ := set $policy "opa" $opa -}}
{{- end -}}
{{- $_ := set $config "policy" $policy -}}
{{- toYaml $config -}}
{{- end }}

{{- define "wardgate.lasting" -}}
{{- $config := include "wardgate.config" . | fromYaml -}}
{{- pick $config "server" "storage" "telemetry" | toJson -}}{{- .Values.policy.engine -}}{{- .Values.policy.external | toJson -}}
{{- end }}

{{- define "wardgate.scaled" -}}
{{- if or (gt (int .Values.replicas) 1) .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled -}}yes{{- end -}}
{{- end }}

{{- define "wardgate.supports" -}}
{{- $supports := .Files.Get "files/supports.yaml" | fromYaml -}}
{{- if get $supports .what -}}yes{{- end -}}
{{- end }}

{{- define "wardgate.testSelector" -}}
app.kubernetes.io/name: {{ include "wardgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}
