import { stat } from 'node:fs/promises'

/** Changes whenever the file does. Size and time alone would miss a replacement of the same size within one tick of the clock; the inode shows it. */
export async function stampOf(file: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs].join(':')
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code)
  }
}
