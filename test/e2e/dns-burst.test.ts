/**
 * A DNS process that is killed in the middle of a burst: what its clients lose, and that nobody else notices.
 * @module-tag night
 */
import { Resolver } from "node:dns/promises";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { dnsProcessesOf } from "../fakes/dns-processes.ts";
import { startNodeProcess, withClient } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const NAME = "web.svc.market.waymark";
const CLIENTS = 40;
/** A process is started anew after at most a second, and starts within seconds on a busy machine. */
const RESTART_MS = 20_000;
const folder = mkdtempSync(join(tmpdir(), "waymark-dns-burst-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.each([1, 2])(
  "of %i DNS processes one is killed in a burst: clients that ask again are all answered, and gRPC and HTTP go on",
  async (processes) => {
    const config = join(folder, `${processes}.toml`);
    writeFileSync(config, `[dns]\nprocesses = ${processes}\n`);
    await using node = await startNodeProcess(["--ephemeral", "--config", config]);
    const web = ["--namespace", "svc.market", "--name", "web", "--instance", "1", "--target", "10.0.0.1:80"];
    expect(await node.run(["register", ...web])).toMatchObject({ exit: 0 });
    // As stub resolvers are: each asks again, from a port of its own.
    const ask = async (): Promise<readonly string[]> => {
      const client = new Resolver({ timeout: 250, tries: 8 });
      client.setServers([`127.0.0.1:${(node.listeners["dns"] ?? "").split(":").at(-1)}`]);
      // While nobody listens, the system says so at once.
      let answer: readonly string[] = [];
      await until("a client that asks again is answered", async () => (answer = await client.resolve4(NAME)).length > 0, RESTART_MS);
      return answer;
    };
    await until("DNS shows it", async () => (await ask()).join() === "10.0.0.1");
    const [killed = 0] = dnsProcessesOf(node.command.pid);
    const burst = { isOver: false };
    let answered = 0;
    const asking = Array.from({ length: CLIENTS }, async () => {
      while (!burst.isOver) {
        expect(await ask()).toEqual(["10.0.0.1"]);
        answered += 1;
      }
    });
    const others = withClient(node, async (client) => {
      while (!burst.isOver) {
        const { items } = await client.call(DiscoveryService.method.catalogQuery, { namespacePrefix: "svc.market" });
        expect(items).toHaveLength(1);
      }
    });
    await until("the burst is on", () => answered > 10 * CLIENTS);
    process.kill(killed, "SIGKILL");
    const before = answered;
    await until("it is back", async () => {
      const text = await (await fetch(`http://${node.listeners["http"]}/readyz`)).text();
      return text.includes(`${processes} of ${processes} processes answer`) && !dnsProcessesOf(node.command.pid).includes(killed);
    });
    await until("all go on", () => answered > before + 10 * CLIENTS);
    burst.isOver = true;
    await Promise.all([...asking, others]);
  },
);
