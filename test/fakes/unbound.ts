/** Unbound as a validating resolver in front of a gateway. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./probed-servers.ts";

/** Asks the gateway at this port of this machine for the zone `waymark`, until it is disposed of. `more`: further lines of its section `server`. */
export async function startUnbound(gateway: string, more: readonly string[]): Promise<AsyncDisposable & { readonly port: number }> {
  const folder = mkdtempSync(join(tmpdir(), "waymark-unbound-"));
  const port = await freePort();
  const config = join(folder, "config");
  writeFileSync(
    config,
    `server:
  directory: "${folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  interface: 127.0.0.1
  port: ${port}
  module-config: "validator iterator"
  do-not-query-localhost: no
${more.map((line) => `  ${line}\n`).join("")}stub-zone:
  name: "waymark"
  stub-addr: 127.0.0.1@${gateway}
`,
  );
  const child = spawn("unbound", ["-d", "-c", config], { stdio: "ignore" });
  const exited = once(child, "exit");
  const dispose = async () => {
    child.kill("SIGKILL");
    await exited;
    rmSync(folder, { recursive: true });
  };
  return { port, [Symbol.asyncDispose]: dispose };
}
