/** `dig`, the resolver of people, against a server of ours. */
import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
/** One question has long to be answered, as asking again would count twice. */
const PATIENT = ["+time=20", "+tries=2"];

export function isDigThere(): boolean {
  return spawnSync("dig", ["-v"], { stdio: "ignore" }).error === undefined;
}

/** What it prints of the answer of a server at `host:port`. */
export async function dig(server: string, ...words: readonly string[]): Promise<string> {
  const [host = "", port = ""] = server.split(":");
  const { stdout } = await run("dig", [`@${host}`, "-p", port, ...PATIENT, "+norec", ...words]);
  return stdout;
}

/** Type and data of each record that it printed. */
export function recordsIn(printed: string): readonly string[] {
  const lines = printed.split("\n").filter((line) => line !== "" && !line.startsWith(";"));
  return lines.map((line) => line.split(/\s+/).slice(3).join(" "));
}
