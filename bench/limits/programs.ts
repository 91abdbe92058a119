import { chmod, copyFile, cp, readFile, rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { provideBuilt, runTool } from '../../shared/dev/built.ts'
import { describeAddon } from '../../shared/kafka/native/check.ts'

/** The C programs in this folder, linked with the librdkafka that the Kafka client ships. */

const SOURCES = import.meta.dir
const LIBRDKAFKA = join(SOURCES, '../../node_modules/@confluentinc/kafka-javascript/deps/librdkafka')
const INSTALL = 'on Debian or Ubuntu: apt-get install build-essential'

/** The options with which shared/kafka/native/build.ts configures it. */
const CONFIGURE = ['./configure', '--disable-gssapi', '--enable-strip', '--disable-debug-symbols'] as const

const PROGRAMS = ['produce', 'drain'] as const

export interface Programs {
  produce: string
  drain: string
  versions: Record<string, string>
}

/** @throws UnavailableError without a compiler, or when a program does not compile */
export async function providePrograms(say: (progress: string) => void): Promise<Programs> {
  const { librdkafka, optionsOff } = describeAddon().manifest
  const compiler = (await runTool(['cc', '--version'], SOURCES, INSTALL)).split('\n')[0] ?? ''
  const library = await provideBuilt({
    name: `librdkafka-${librdkafka}`,
    files: [],
    made: [librdkafka, compiler, ...CONFIGURE, ...optionsOff],
    async build(into) {
      say('compiling librdkafka, about a minute, once')
      const work = join(into, 'work')
      await cp(LIBRDKAFKA, work, { recursive: true })
      for (const script of ['configure', 'lds-gen.py']) await chmod(join(work, script), 0o755)
      await runTool([...CONFIGURE, ...optionsOff], work, INSTALL)
      await runTool(['make', `-j${availableParallelism()}`, '-C', 'src', 'librdkafka.a'], work, INSTALL)
      await copyFile(join(work, 'src/librdkafka.a'), join(into, 'librdkafka.a'))
      await copyFile(join(work, 'src/rdkafka.h'), join(into, 'rdkafka.h'))
      await copyFile(join(work, 'Makefile.config'), join(into, 'Makefile.config'))
      await rm(work, { recursive: true })
    },
  })
  const libraries = librariesOf(await readFile(join(library, 'Makefile.config'), 'utf8'))
  const built = await provideBuilt({
    name: 'limits',
    files: ['program.h', ...PROGRAMS.map((name) => `${name}.c`)].map((file) => join(SOURCES, file)),
    made: [library],
    async build(into) {
      say('compiling the programs that measure limits')
      for (const name of PROGRAMS) {
        const files = ['-o', join(into, name), join(SOURCES, `${name}.c`), join(library, 'librdkafka.a')]
        // As a system header, since its warnings are not ours.
        await runTool(
          ['cc', '-O2', '-Wall', '-Wextra', '-Werror', '-isystem', library, ...files, ...libraries],
          into,
          INSTALL,
        )
      }
    },
  })
  return { produce: join(built, 'produce'), drain: join(built, 'drain'), versions: { librdkafka, cc: compiler } }
}

/** The libraries that librdkafka was configured to need, from its Makefile.config. */
export const librariesOf = (makefileConfig: string): string[] =>
  makefileConfig.split('\n').flatMap((line) => /^LIBS\+?=(.*)$/.exec(line)?.[1]?.trim().split(/\s+/) ?? [])
