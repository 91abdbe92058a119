import { kcatCommand } from './kcat.ts'

/** Records of other clients. */

/** Bytes and headers need not be text, or an event. */
export interface ForeignRecord {
  value: Buffer
  key?: string
  headers: readonly string[]
}

/** Writes one record with kcat, as any client could. */
export async function writeRecord(
  brokers: string,
  topic: string,
  partition: number,
  { value, key, headers }: ForeignRecord,
): Promise<void> {
  const args = ['-P', '-b', brokers, '-t', topic, '-p', String(partition), '-X', 'acks=all']
  if (key !== undefined) args.push('-k', key)
  for (const header of headers) args.push('-H', header)
  const child = Bun.spawn([kcatCommand(), ...args], { stdin: value, stdout: 'ignore', stderr: 'pipe' })
  if ((await child.exited) !== 0) throw new Error(`kcat could not write: ${await child.stderr.text()}`)
}
