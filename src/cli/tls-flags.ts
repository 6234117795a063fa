/** Reads the certificates and keys that flags name, and checks them before a server is asked, so that the message can name the flag. */
import { createSecureContext } from "node:tls";
import type { TlsFiles } from "../client/connect-options.ts";
import { certificatesFault, MAX_PEM_BYTES } from "../lib/named-file.io.ts";
import { type Environment, readInput } from "./environment.ts";
import { UsageError } from "./exit.ts";

interface NamedFile {
  /** The flag or variable that names it. */
  readonly source: string;
  /** The name of the file; undefined without one. */
  readonly text: string | undefined;
}

/** Throws a UsageError that names the flag or variable and the file, and never its contents. */
export async function readTlsFlags(environment: Environment, flags: Readonly<Record<"ca" | "cert" | "key", NamedFile>>): Promise<TlsFiles> {
  const read = async ({ source, text }: NamedFile): Promise<Buffer | undefined> =>
    text === undefined ? undefined : Buffer.from(await readInput(environment, text, MAX_PEM_BYTES, source));
  const nameOf = ({ source, text }: NamedFile): string => `${source} ${text}`;
  const [ca, cert, key] = [await read(flags.ca), await read(flags.cert), await read(flags.key)];
  for (const [bytes, named] of [[ca, flags.ca] as const, [cert, flags.cert] as const]) {
    const fault = bytes && certificatesFault(bytes);
    if (fault !== undefined) throw new UsageError(`${nameOf(named)}: ${fault}`);
  }
  if (cert !== undefined && key !== undefined) {
    if (!isRight(() => createSecureContext({ key })))
      throw new UsageError(`${nameOf(flags.key)}: holds no private key in PEM that is not encrypted`);
    if (!isRight(() => createSecureContext({ cert, key })))
      throw new UsageError(`${nameOf(flags.key)}: is not the key of ${nameOf(flags.cert)}`);
  }
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
}

function isRight(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch {
    return false;
  }
}
