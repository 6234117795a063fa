/** A DNS process that stands still: nobody waits for it but whoever asks it, and the node ends it after ten seconds. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { askOnce, dnsProcessesOf } from "../fakes/dns-processes.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { isRunning } from "../fakes/running.ts";
import { until } from "../fakes/until.ts";

test("writes go on while a DNS process stands still, and another one takes its place and has what was written", async () => {
  const folder = mkdtempSync(join(tmpdir(), "waymark-hung-dns-"));
  try {
    const config = join(folder, "node.toml");
    writeFileSync(config, "[dns]\nprocesses = 1\n");
    await using node = await startNodeProcess(["--ephemeral", "--config", config]);
    const port = Number((node.listeners["dns"] ?? "").split(":").at(-1));
    const [hung = 0] = dnsProcessesOf(node.command.pid);
    process.kill(hung, "SIGSTOP");
    for (let n = 1; n <= 3; n++) {
      const web = ["--namespace", "svc.market", "--name", "web", "--instance", "1", "--target", `10.0.0.${n}:80`];
      expect(await node.run(["register", ...web])).toMatchObject({ exit: 0 });
    }
    await until("another process has what was written", async () => (await askOnce(port, "web.svc.market.waymark"))?.[0] === "10.0.0.3");
    expect(isRunning(hung)).toBe(false);
    expect(node.command.stderr).toContain("the worker no longer confirms messages");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
