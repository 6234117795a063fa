/** The real world of the command line: this process's terminals, files and signals. */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Terminal, World } from "./world.ts";

/** Folder that holds package.json: the clone's, or `dist` of a packed Waymark, which carries what is read at run time. */
const FOLDER = fileURLToPath(new URL("../..", import.meta.url));

async function readStdin(maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of process.stdin) {
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
    sizeBytes += bytes.length;
    if (sizeBytes > maxBytes) throw new Error(`it has more than ${maxBytes} bytes`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function readText(path: string, maxBytes: number): Promise<string> {
  if (path === "-") return readStdin(maxBytes);
  const { size } = await stat(path);
  if (size > maxBytes) throw new Error(`it has ${size} bytes, more than ${maxBytes}`);
  return readFile(path, "utf8");
}

function terminal(stream: NodeJS.WriteStream): Terminal {
  return { write: (text) => void stream.write(text), isTty: stream.isTTY };
}

/** The world as it is; what only the entry point knows comes in. */
export async function openWorld(
  own: Pick<World, "interrupt" | "serve" | "labels" | "readPolicy" | "writePolicy" | "verifyAudit" | "fileWarnings" | "fileFaults">,
): Promise<World> {
  const facts: unknown = JSON.parse(await readFile(join(FOLDER, "package.json"), "utf8"));
  const version = typeof facts === "object" && facts !== null && "version" in facts ? String(facts.version) : "unknown";
  return {
    ...own,
    version,
    env: process.env,
    stdout: terminal(process.stdout),
    stderr: terminal(process.stderr),
    later: (act, delayMs) => {
      const timer = setTimeout(act, delayMs);
      return () => clearTimeout(timer);
    },
    readText,
    readOwn: (path) => readFile(join(FOLDER, path), "utf8"),
  };
}
