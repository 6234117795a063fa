/** Reads the certificate and key files given in flags, and checks them before a server is called, so that an error can name the flag. */
import type { TlsFiles } from "../client/connect-options.ts";
import { findTlsFault } from "../client/tls.io.ts";
import { MAX_PEM_BYTES } from "../lib/named-file.io.ts";
import { type Environment, readInput } from "./environment.ts";
import { UsageError } from "./exit.ts";

interface TlsFlagFile {
  /** The flag or variable that names the file. */
  readonly source: string;
  /** The name of the file, or undefined if the flag is absent. */
  readonly text: string | undefined;
}

/** Throws a UsageError that contains the names of the flag or variable and the file, but never the file's contents. */
export async function readTlsFlags(
  environment: Environment,
  flags: Readonly<Record<"ca" | "cert" | "key", TlsFlagFile>>,
): Promise<TlsFiles> {
  const read = async ({ source, text }: TlsFlagFile): Promise<Buffer | undefined> =>
    text === undefined ? undefined : Buffer.from(await readInput(environment, text, MAX_PEM_BYTES, source));
  const nameOf = ({ source, text }: TlsFlagFile): string => `${source} ${text}`;
  const [ca, cert, key] = [await read(flags.ca), await read(flags.cert), await read(flags.key)];
  const files = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  const wrong = findTlsFault(files, nameOf(flags.cert));
  if (wrong !== undefined) throw new UsageError(`${nameOf(flags[wrong.file])}: ${wrong.fault}`);
  return files;
}
