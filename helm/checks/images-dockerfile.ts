/** Parses the parts of a Dockerfile that the checks need: its stages and their settings. Continuation lines are joined. */

export interface Stage {
  readonly name: string
  readonly from: string
  /** From this stage's own ENV. */
  readonly environment: Readonly<Record<string, string>>
  readonly exposes: readonly number[]
}

export function stagesOf(dockerfile: string): Stage[] {
  const stages: { name: string; from: string; environment: Record<string, string>; exposes: number[] }[] = []
  const lines = dockerfile.replaceAll(/\\\n/g, ' ').split('\n')
  for (const line of lines) {
    const [, from, name] = /^FROM (\S+) AS (\S+)$/.exec(line) ?? []
    if (from !== undefined && name !== undefined) stages.push({ name, from, environment: {}, exposes: [] })
    const stage = stages.at(-1)
    for (const [, key = '', value = ''] of /^ENV (.*)/.exec(line)?.[1]?.matchAll(/([A-Z0-9_]+)=(\S+)/g) ?? [])
      if (stage !== undefined) stage.environment[key] = value
    stage?.exposes.push(...(/^EXPOSE (.*)/.exec(line)?.[1]?.split(/\s+/).map(Number) ?? []))
  }
  return stages
}

/** The ENV of a stage, including the stages that it is based on. */
export function environmentOfStage(stages: readonly Stage[], name: string): Record<string, string> {
  const stage = stages.find((one) => one.name === name)
  return stage === undefined ? {} : { ...environmentOfStage(stages, stage.from), ...stage.environment }
}

/** Images from a registry. */
export const basesOf = (stages: readonly Stage[]): string[] => [
  ...new Set(stages.map(({ from }) => from).filter((from) => !stages.some(({ name }) => name === from))),
]
