import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { findJava } from '../../shared/dev/brokers/kafka-distribution.ts'
import { provideBuilt, runTool } from '../../shared/dev/built.ts'

/**
 * Fetches what a program of one Java file needs, and compiles it.
 * @param folder has the file and a pom.xml with its dependencies, among which is Eclipse's compiler: a Java runtime has none
 * @param main the name of its class and, with .java, of the file
 * @param options of the Java runtime
 * @returns a command that runs it
 * @throws UnavailableError, BrokerUnavailableError when Java, Maven or Maven Central is not there
 */
export async function provideJava(
  folder: string,
  main: string,
  options: readonly string[],
  say: (progress: string) => void,
): Promise<[string, ...string[]]> {
  const java = await findJava(main)
  const source = join(folder, `${main}.java`)
  const built = await provideBuilt({
    name: `java-${main.toLowerCase()}`,
    files: [join(folder, 'pom.xml'), source],
    made: [],
    async build(into) {
      say(`fetching what ${main} needs from Maven Central`)
      const maven = ['mvn', '--batch-mode', '--no-transfer-progress', '--file', join(folder, 'pom.xml')] as const
      const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${join(into, 'lib')}`]
      await runTool([...maven, ...goal], folder, 'install it with: apt-get install maven')
      const jars = (await readdir(join(into, 'lib'))).map((jar) => join(into, 'lib', jar)).join(':')
      const compiler = [java, '-cp', jars, 'org.eclipse.jdt.internal.compiler.batch.Main'] as const
      await runTool([...compiler, '-17', '-encoding', 'UTF-8', '-nowarn', '-cp', jars, '-d', into, source], folder, '')
    },
  })
  return [java, ...options, '-XX:TieredStopAtLevel=1', '-cp', `${built}:${join(built, 'lib/*')}`, main]
}
