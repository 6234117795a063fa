/**
 * The names of addresses at a real node, answered by itself and by a process of its own.
 *
 * @module-tag night
 */
import { Resolver } from "node:dns/promises";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-dns-reverse-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.each(some([0, 1]))("with %i processes for DNS a node tells who is at an address", async (processes) => {
  const path = join(folder, `${processes}.toml`);
  writeFileSync(path, `[dns]\nprocesses = ${processes}\nreverse_zones = ["10.0.0.0/8", "127.0.0.0/8"]\n`);
  await using node = await startNodeProcess(["--ephemeral", "--config", path]);
  const dns = new Resolver();
  dns.setServers([node.listeners["dns"] ?? ""]);
  const namesAt = (address: string) =>
    dns.resolvePtr(`${address.split(".").toReversed().join(".")}.in-addr.arpa`).catch((error: NodeJS.ErrnoException) => error.code);
  expect(await namesAt("10.1.2.3")).toBe("ENOTFOUND");
  const register = async (address: string) => {
    const web = ["--namespace", "svc.market", "--name", "web", "--instance", "1", "--target", `${address}:80`];
    expect(await node.run(["register", ...web])).toMatchObject({ exit: 0 });
  };
  await register("10.1.2.3");
  await until("its name is told", async () => String(await namesAt("10.1.2.3")) === "web.svc.market.waymark");
  const self = `${node.nodeId}.node.waymark`;
  expect([await namesAt("127.0.0.1"), await dns.resolveNs("10.in-addr.arpa")]).toEqual([[self], [self]]);
  await register("10.1.2.4");
  await until("it is told at its new address", async () => String(await namesAt("10.1.2.4")) === "web.svc.market.waymark");
  expect(await namesAt("10.1.2.3")).toBe("ENOTFOUND");
});
