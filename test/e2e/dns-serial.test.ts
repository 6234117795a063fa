/**
 * The serial of the zone at real nodes: it never goes back, and every thread of a node tells the same one.
 * @module-tag night
 */
import { Resolver } from "node:dns/promises";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-dns-serial-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** From a port of its own, so that any thread of the node may answer. */
async function serialOf(node: NodeProcess): Promise<number> {
  const resolver = new Resolver({ timeout: 10_000, tries: 3 });
  resolver.setServers([node.listeners["dns"] ?? ""]);
  return (await resolver.resolveSoa("waymark")).serial;
}

const register = (node: NodeProcess, name: string) =>
  node.run(["register", "--namespace", "svc.market", "--name", name, "--target", "10.0.0.1:80", "--instance", "1"]);

/** Registers an entry, and resolves with the serial of the version that has it. */
async function change(node: NodeProcess, name: string): Promise<number> {
  const before = await serialOf(node);
  await register(node, name);
  let after = before;
  await until("a version of the zone", async () => (after = await serialOf(node)) !== before);
  return after;
}

test("the serial grows with each change and each restart, also after a kill, in the same second and with a broken file", async () => {
  const told: number[] = [];
  for (const spoils of [false, false, true, false]) {
    await using node = await startNodeProcess(["--data-dir", folder]);
    told.push(await serialOf(node), await change(node, `web${told.length}`), await change(node, `shop${told.length}`));
    await node.stop("SIGKILL");
    if (spoils) writeFileSync(join(folder, "zone-serials"), "no serials");
  }
  expect(told).toEqual(told.toSorted((a, b) => a - b));
  expect(new Set(told).size).toBe(told.length);
  // At most one version a second, so none is ahead of the clock by more than the starts.
  expect(told[0]).toBeGreaterThan(1_700_000_000);
  expect(told.at(-1)).toBeLessThanOrEqual(Date.now() / 1000 + 4);
  expect(readdirSync(folder)).toContain("zone-serials.ignored");
});

test("all read workers tell the serial of the main thread", async () => {
  await using node = await startNodeProcess(["--ephemeral", "--workers", "2"]);
  const askAll = async () => new Set(await Promise.all(Array.from({ length: 24 }, () => serialOf(node))));
  const before = await askAll();
  expect(before.size).toBe(1);
  const serial = await change(node, "web");
  expect(await askAll()).toEqual(new Set([serial]));
  expect([...before][0]).toBeLessThan(serial);
});
