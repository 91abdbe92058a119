/** A Debian system in a folder, with the essential packages and some more. */

const MIRROR = 'http://deb.debian.org/debian'

/** The command that makes it. Needs root. */
export const debootstrap = (suite: string, folder: string, packages: readonly string[]) =>
  ['debootstrap', '--variant=minbase', `--include=${packages.join(',')}`, suite, folder, MIRROR] as const
