/** Settings and files → what the fabric is made of. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import type { Settings } from "../../../src/config/settings.ts";
import { fabricOptions } from "../../../src/node/fabric/options.ts";
import { readClusterTokens, readFabricTls } from "../../../src/node/fabric/secrets.io.ts";
import { FabricAuthority } from "../../fakes/fabric-transport.ts";
import { FABRIC_OPTIONS, SETTINGS } from "../../fakes/options.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-mesh-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

function settings(fabric: Record<string, unknown>): Settings {
  const loaded = loadConfig({ env: {}, flags: new Map(), file: { name: "n.json", format: "json", text: JSON.stringify({ fabric }) } });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.effective.settings;
}

function file(name: string, content: string | Uint8Array): string {
  const path = join(HOME, name);
  writeFileSync(path, content);
  return path;
}

test("the fabric has as long for a stop as the settings say, and a second at least", () => {
  const stop = (stopTimeoutMs: number) => fabricOptions({ ...SETTINGS, node: { ...SETTINGS.node, stopTimeoutMs } }).stopTimeoutMs;
  expect([stop(10_000), stop(0)]).toEqual([10_000, 1000]);
});

test("what is said per interval grows and shrinks with it", () => {
  const { membership } = fabricOptions(settings({ interval: "2s", ping_timeout: "1s" }));
  const { suspicionFloorMs, gossipMs, reconnectMs } = FABRIC_OPTIONS.membership;
  expect(membership).toMatchObject({ intervalMs: 2000, pingTimeoutMs: 1000, suspicionFloorMs: 2 * suspicionFloorMs });
  expect([membership.gossipMs, membership.reconnectMs]).toEqual([2 * gossipMs, 2 * reconnectMs]);
});

test("nodes that vanish at once are those that do within the longest suspicion", () => {
  const windowOf = (fabric: Record<string, unknown>) => fabricOptions(settings(fabric)).lifecycle.suspicionWindowMs;
  expect(windowOf({})).toBe(30_000);
  expect(windowOf({ interval: "100ms", ping_timeout: "50ms" })).toBe(30_000);
  expect(windowOf({ interval: "5s" })).toBe(150_000);
  expect(windowOf({ suspicion_multiplier: 10 })).toBe(60_000);
});

test("how far and how often news is told, and how long a suspect has, are settings", () => {
  const said = { fanout: 5, retransmit_multiplier: 7, metadata_refresh: "30s", suspicion_min: "40s" };
  const { membership, lifecycle } = fabricOptions(settings(said));
  expect(membership).toMatchObject({ fanout: 5, retransmitMult: 7, refreshMs: 30_000, suspicionMinMs: 40_000 });
  expect(lifecycle.suspicionWindowMs).toBe(240_000);
  expect(() => settings({ metadata_refresh: "500ms" })).toThrow("must be 0, or at least fabric.interval");
});

test("more links leave room for as many of others", () => {
  expect(fabricOptions(settings({ max_links: 100 })).links).toMatchObject({ maxLinks: 100, maxTotalLinks: 300, maxIncomingLinks: 200 });
});

test.each([
  { content: "0123456789abcdef\n", want: { clusterToken: "0123456789abcdef" } },
  { content: "0123456789abcdef\r\n", want: { clusterToken: "0123456789abcdef" } },
  { content: "0123456789abcdef\nfedcba9876543210", want: { clusterToken: "0123456789abcdef", otherToken: "fedcba9876543210" } },
  { content: "", want: undefined },
  { content: "0123456789abcdef\n\n", want: undefined },
  { content: "0123456789abcdef\nfedcba9876543210\n0123456789abcdef", want: undefined },
  { content: "too short", want: undefined },
  { content: "has a space in it, and is long", want: undefined },
  { content: "words with spaces\nin two lines of it\n", want: undefined },
  { content: "x".repeat(1025), want: undefined },
])("a token file with $content is $want", ({ content, want }) => {
  const given = settings({ cluster_token_file: file("token", content) });
  if (want !== undefined) expect(readClusterTokens(given)).toEqual(want);
  else {
    expect(() => readClusterTokens(given)).toThrow(/^fabric\.cluster_token_file: .*expected one or two lines of 16 to 1024/);
    if (content !== "") expect(() => readClusterTokens(given)).not.toThrow(content.slice(0, 8));
  }
});

test("a certificate must be this node's, in this cluster; without one connections are plain", () => {
  const tls = new FabricAuthority().issue("n1", { clusterId: "c1" });
  const given = settings({ cert_file: file("cert", tls.cert), key_file: file("key", tls.key), ca_file: file("ca", tls.clientCa) });
  expect(readFabricTls(given, { nodeId: "n1", clusterId: "c1" })).toEqual(tls);
  expect(() => readFabricTls(given, { nodeId: "n2", clusterId: "c1" })).toThrow(
    "belongs to node n1 of cluster c1, but this is node n2 of cluster c1",
  );
  expect(() => readFabricTls(given, { nodeId: "n1", clusterId: "c2" })).toThrow("this is node n1 of cluster c2");
  expect(readFabricTls(settings({}), { nodeId: "n1", clusterId: "c1" })).toBeUndefined();
  expect(() => readFabricTls(settings({ cert_file: "/nowhere", key_file: "k", ca_file: "c" }), { nodeId: "n1", clusterId: "c1" })).toThrow(
    /^fabric\.cert_file: .*nowhere/,
  );
});
