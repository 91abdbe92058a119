/**
 * Handlers that make what is known of a person erasable (crypto-shredding): personal members are stored encrypted, by a key of their subject, and are gone with
 * that key. Run them with `KEYS_FOLDER=/tmp/keys bun run dev --handlers docs/examples/erasure.ts`; erase a subject with
 * `KEYS_FOLDER=/tmp/keys bun docs/examples/erasure.ts SUBJECT`.
 */
import { link, mkdir, readFile, rename, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { defineHandler, TerminalError, Type } from 'kafkatrace'

/** Where the keys are: a folder here, elsewhere a key management service. Its backups must forget a key as it does. */
interface KeyStore {
  /** The subject's key, which is made if there is none; undefined once the subject was erased. */
  keyOf(subject: string): Promise<CryptoKey | undefined>
  /** The key is gone, and no other is made: an event that is processed again brings nothing back. */
  erase(subject: string): Promise<void>
}

/** All consumers need the same folder. An empty file stands for an erased subject. */
function keysIn(folder: string): KeyStore {
  /** Names of files end up where names of people must not be. */
  const fileOf = async (subject: string): Promise<string> => {
    const hash = await crypto.subtle.digest('SHA-256', Buffer.from(subject))
    return join(folder, Buffer.from(hash).toString('hex'))
  }
  /** Under another name first, so that nobody reads half a key. */
  const written = async (file: string, bytes: Uint8Array): Promise<string> => {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const unfinished = `${file}.${crypto.randomUUID()}`
    await writeFile(unfinished, bytes, { mode: 0o600, flush: true })
    return unfinished
  }
  return {
    async keyOf(subject) {
      const file = await fileOf(subject)
      let bytes = await readFile(file).catch(unlessCode('ENOENT'))
      if (bytes === undefined) {
        const made = await written(file, crypto.getRandomValues(new Uint8Array(32)))
        // Another consumer may have made one meanwhile: that which is there counts.
        await link(made, file).catch(unlessCode('EEXIST'))
        await unlink(made)
        bytes = await readFile(file)
      }
      if (bytes.length === 0) return undefined
      return crypto.subtle.importKey('raw', Uint8Array.from(bytes), 'AES-GCM', false, ['encrypt', 'decrypt'])
    },
    async erase(subject) {
      const file = await fileOf(subject)
      await rename(await written(file, new Uint8Array()), file)
    },
  }
}

function unlessCode(code: string) {
  return (error: NodeJS.ErrnoException): undefined => {
    if (error.code !== code) throw error
  }
}

const { KEYS_FOLDER } = process.env
if (KEYS_FOLDER === undefined) throw new Error('KEYS_FOLDER has to name the folder of the keys')
const keys = keysIn(KEYS_FOLDER)

/** NIST SP 800-38D, section 8.2: 96 bits that are never used twice with a key. Random ones do for 2^32 values. */
const IV_BYTES = 12

/** What is encrypted can be read in its own place only: as this member, of this subject. */
const algorithm = (iv: Uint8Array<ArrayBuffer>, subject: string, member: string) => ({
  name: 'AES-GCM',
  iv,
  additionalData: Buffer.from(JSON.stringify([subject, member])),
})

/** A value as JSON, encrypted: iv and ciphertext in base64url. null once its subject was erased. */
type Sealed = string | null

async function seal(value: unknown, subject: string, member: string): Promise<Sealed> {
  const key = await keys.keyOf(subject)
  if (key === undefined) return null
  const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES))
  const sealed = await crypto.subtle.encrypt(algorithm(iv, subject, member), key, Buffer.from(JSON.stringify(value)))
  return Buffer.concat([iv, Buffer.from(sealed)]).toString('base64url')
}

/** The value, or undefined once its subject was erased. @throws TerminalError for what was not sealed here */
async function unseal(sealed: Sealed, subject: string, member: string): Promise<unknown> {
  const key = await keys.keyOf(subject)
  if (key === undefined || sealed === null) return undefined
  const bytes = Uint8Array.from(Buffer.from(sealed, 'base64url'))
  const iv = bytes.slice(0, IV_BYTES)
  try {
    const value = await crypto.subtle.decrypt(algorithm(iv, subject, member), key, bytes.slice(IV_BYTES))
    return JSON.parse(Buffer.from(value).toString())
  } catch {
    throw new TerminalError(`${member} was not sealed with the key of this subject`)
  }
}

/** @throws TerminalError for an event without a subject: nobody could ask for its erasure */
function subjectOf({ subject }: { readonly subject?: string }): string {
  if (subject === undefined) throw new TerminalError('the event has no subject')
  return subject
}

const SealedMember = Type.Union([Type.String(), Type.Null()])

export const handlers = [
  /** What stays in `.processed` has the personal members encrypted. */
  defineHandler({
    type: 'customer.registered',
    version: '1',
    schema: Type.Object({ name: Type.String(), email: Type.String(), plan: Type.String() }),
    result: Type.Object({ name: SealedMember, email: SealedMember, plan: Type.String() }),
    async handle({ name, email, plan }, { event }) {
      const subject = subjectOf(event)
      const sealed = { name: await seal(name, subject, 'name'), email: await seal(email, subject, 'email') }
      return { type: 'customer.sealed', data: { ...sealed, plan } }
    },
  }),
  /** Whoever needs them reads them with the key, for as long as it is there. */
  defineHandler({
    type: 'customer.sealed',
    version: '1',
    schema: Type.Object({ name: SealedMember, email: SealedMember, plan: Type.String() }),
    async handle({ name, plan }, { event }) {
      const opened = await unseal(name, subjectOf(event), 'name')
      return { type: 'customer.greeted', data: { greeting: `Hello ${opened ?? '(erased)'}`, plan } }
    },
  }),
]

if (import.meta.main) {
  const [subject] = process.argv.slice(2)
  if (subject === undefined) throw new Error('bun erasure.ts SUBJECT')
  await keys.erase(subject)
}
