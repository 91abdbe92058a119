/** A Debian system in a folder, of its essential packages and those that are named. */

const MIRROR = 'http://deb.debian.org/debian'

/** The command that makes it; needs root. */
export const debootstrap = (suite: string, folder: string, packages: readonly string[]) =>
  ['debootstrap', '--variant=minbase', `--include=${packages.join(',')}`, suite, folder, MIRROR] as const
