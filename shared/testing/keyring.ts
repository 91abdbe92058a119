import { makeKey } from '../http/tenants.ts'

/** Makes keys, and remembers each by its id, since a tenants file has only hashes. */
export function keyring() {
  const made = new Map<string, string>()
  /** For a tenants file. */
  const entry = (id: string) => {
    const { key, sha256 } = makeKey(id)
    made.set(id, key)
    return { id, sha256 }
  }
  return { made, entry }
}
