import { randomUUID } from 'node:crypto'
import { type FileHandle, link, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'

/** Where a backup is kept. Names are paths with `/`, relative to the backup. */
export interface Repository {
  /** As it was named, for messages. */
  readonly name: string
  /** undefined where there is no such file. */
  readText(name: string): Promise<string | undefined>
  /** Readers see the file as it was before, or as it is now. */
  replace(name: string, text: string): Promise<void>
  /** The file is there with its text, or not at all. @returns false, without an effect, where it is there already */
  createNew(name: string, text: string): Promise<boolean>
  /** A file that is not there until it is finished. */
  create(name: string): Promise<NewFile>
  /** undefined where there is no such file. */
  size(name: string): Promise<number | undefined>
  /** The file from its beginning, in parts of any size. */
  read(name: string): AsyncIterable<Buffer>
  /** Names of all files in a folder and its folders; none where it is not there. With those that were never finished. */
  list(folder: string): Promise<string[]>
  /** A file that is not there is none to remove. */
  remove(name: string): Promise<void>
}

export interface NewFile {
  write(bytes: Uint8Array): Promise<void>
  /** The file is there, also after a loss of power. */
  finish(): Promise<void>
  /** It will never be there. */
  abandon(): Promise<void>
}

/** The name of a file that is not finished. */
const partOf = (path: string): string => `${path}.${randomUUID().slice(0, 8)}.part`

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT'

/** A folder, which is created with the first file. */
export function folderRepository(folder: string): Repository {
  const pathOf = (name: string): string => join(folder, name)

  /** What is renamed is there after a loss of power only once its folder is written, too. */
  async function syncFolder(path: string): Promise<void> {
    const handle = await open(path, 'r')
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  async function makeFolder(path: string): Promise<void> {
    const first = await mkdir(path, { recursive: true })
    if (first === undefined) return
    for (let one = path; ; one = dirname(one)) {
      await syncFolder(dirname(one))
      if (one === first) return
    }
  }

  async function create(name: string): Promise<NewFile> {
    const path = pathOf(name)
    const part = partOf(path)
    await makeFolder(dirname(path))
    const handle: FileHandle = await open(part, 'wx')
    return {
      async write(bytes) {
        for (let from = 0; from < bytes.length; ) from += (await handle.write(bytes, from)).bytesWritten
      },
      async finish() {
        await handle.sync()
        await handle.close()
        await rename(part, path)
        await syncFolder(dirname(path))
      },
      async abandon() {
        await handle.close().catch(() => undefined)
        await rm(part, { force: true })
      },
    }
  }

  return {
    name: folder,
    async readText(name) {
      return readFile(pathOf(name), 'utf8').catch((error) => {
        if (isMissing(error)) return undefined
        throw error
      })
    },
    async replace(name, text) {
      const file = await create(name)
      try {
        await file.write(Buffer.from(text))
        await file.finish()
      } catch (error) {
        await file.abandon()
        throw error
      }
    },
    async createNew(name, text) {
      const path = pathOf(name)
      const part = partOf(path)
      await makeFolder(dirname(path))
      // With its text at once: a run that is killed leaves no empty file.
      await writeFile(part, text)
      try {
        await link(part, path)
        return true
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
        throw error
      } finally {
        await rm(part, { force: true })
      }
    },
    create,
    async size(name) {
      return stat(pathOf(name)).then(
        ({ size }) => size,
        (error) => {
          if (isMissing(error)) return undefined
          throw error
        },
      )
    },
    async *read(name) {
      const handle = await open(pathOf(name), 'r')
      try {
        for (;;) {
          const { buffer, bytesRead } = await handle.read({ buffer: Buffer.allocUnsafe(READ_BYTES) })
          if (bytesRead === 0) return
          yield buffer.subarray(0, bytesRead)
        }
      } finally {
        await handle.close()
      }
    },
    async list(inside) {
      const found = await readdir(pathOf(inside), { recursive: true, withFileTypes: true }).catch((error) => {
        if (isMissing(error)) return []
        throw error
      })
      return found.filter((one) => one.isFile()).map((one) => relative(folder, join(one.parentPath, one.name)))
    },
    async remove(name) {
      await rm(pathOf(name), { force: true })
    },
  }
}

const READ_BYTES = 1024 * 1024
