/** Where a node listens for others, and what it tells them of it. */
import { expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import type { Settings } from "../../../src/config/settings.ts";
import { advertisedHost, fabricHost, type NetworkAddress } from "../../../src/node/fabric/address.io.ts";

function settings(file: Record<string, Record<string, unknown>>): Settings {
  const loaded = loadConfig({ env: {}, flags: new Map(), file: { name: "node.json", format: "json", text: JSON.stringify(file) } });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  return loaded.effective.settings;
}

const CERTIFICATES = { cert_file: "a", key_file: "b", ca_file: "c" };
const OPEN = { host: "0.0.0.0", insecure: true };

test.each([
  { what: "on loopback", file: {}, want: "127.0.0.1" },
  { what: "on loopback with seeds", file: { fabric: { seeds: ["127.0.0.1:1"] } }, want: "127.0.0.1" },
  { what: "open with certificates", file: { listen: { host: "10.0.0.5" }, fabric: CERTIFICATES }, want: "10.0.0.5" },
  { what: "open, nothing configured for it", file: { listen: { host: "0.0.0.0" } }, want: "127.0.0.1" },
  { what: "open and insecure, nothing configured for it", file: { listen: OPEN }, want: "127.0.0.1" },
  { what: "open and insecure with a token", file: { listen: OPEN, fabric: { cluster_token_file: "t" } }, want: "0.0.0.0" },
])("the fabric listens $what at $want", ({ file, want }) => {
  expect(fabricHost(settings(file))).toBe(want);
});

test.each([
  { what: "a token over plain text", file: { listen: { host: "0.0.0.0" }, fabric: { cluster_token_file: "t" } } },
  { what: "seeds and nothing to prove oneself by", file: { listen: OPEN, fabric: { seeds: ["10.0.0.1:17421"] } } },
])("$what is refused, and the message says what would do", ({ file }) => {
  expect(() => fabricHost(settings(file))).toThrow(/fabric\.cert_file.*cluster_token_file with --insecure.*127\.0\.0\.1/);
});

const CARDS: readonly NetworkAddress[] = [
  { address: "127.0.0.1", family: "IPv4", internal: true },
  { address: "fe80::1", family: "IPv6", internal: false },
  { address: "2001:db8::7", family: "IPv6", internal: false },
  { address: "10.1.2.3", family: "IPv4", internal: false },
];

test.each([
  { bound: "127.0.0.1", listen: {}, cards: CARDS, want: "127.0.0.1" },
  { bound: "10.9.9.9", listen: { host: "10.9.9.9" }, cards: CARDS, want: "10.9.9.9" },
  { bound: "0.0.0.0", listen: { host: "0.0.0.0" }, cards: CARDS, want: "10.1.2.3" },
  { bound: "::", listen: { host: "::" }, cards: CARDS.slice(0, 3), want: "2001:db8::7" },
  { bound: "0.0.0.0", listen: { host: "0.0.0.0" }, cards: CARDS.slice(0, 2), want: "127.0.0.1" },
  { bound: "0.0.0.0", listen: { host: "0.0.0.0", advertise_host: "node-1.example" }, cards: CARDS, want: "node-1.example" },
  { bound: "127.0.0.1", listen: { advertise_host: "node-1.example" }, cards: CARDS, want: "node-1.example" },
  // The fabric alone on loopback: nobody reaches it elsewhere.
  { bound: "127.0.0.1", listen: { host: "0.0.0.0", advertise_host: "node-1.example" }, cards: CARDS, want: "127.0.0.1" },
])("bound to $bound with $listen others are told $want", ({ bound, listen, cards, want }) => {
  expect(advertisedHost(settings({ listen }), bound, () => cards)).toBe(want);
});

test.each([
  { file: { fabric: { cert_file: "a" } }, path: "fabric.cert_file" },
  { file: { fabric: { enabled: false, seeds: ["a:1"] } }, path: "fabric.seeds" },
  { file: { fabric: { ping_timeout: "1s" } }, path: "fabric.ping_timeout" },
  { file: { fabric: { seeds: ["10.0.0.1"] } }, path: "fabric.seeds" },
  { file: { fabric: { seeds: ["fd00::1:17421"] } }, path: "fabric.seeds" },
  { file: { fabric: { orphan_protect_ratio: 1.5 } }, path: "fabric.orphan_protect_ratio" },
])("settings that cannot be meant: $file", ({ file, path }) => {
  const loaded = loadConfig({ env: {}, flags: new Map(), file: { name: "node.json", format: "json", text: JSON.stringify(file) } });
  expect(loaded.ok ? [] : loaded.problems.map((problem) => problem.path)).toEqual([path]);
});
