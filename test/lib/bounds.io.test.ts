/** Each shared bound: what a setting allows is what the wire, the store and peers take, and nothing more can be set. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { PROTOCOL_BOUNDS } from "../../src/catalog/entry/names.ts";
import { SETTING_ROWS } from "../../src/config/settings.ts";
import type { MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { NODE_BOUNDS, POLICY_BOUNDS, RECORD_BOUNDS } from "../../src/lib/bounds.ts";
import { formatPolicyFile } from "../../src/policy/set/file.ts";
import { validate } from "../../src/policy/set/validation.ts";
import { encodeVersion } from "../../src/policy/versions/codec.ts";
import { openMemoryStore } from "../../src/store/control/sqlite.io.ts";
import { MemberBench } from "../fabric/membership-bench.ts";
import { asReceived, callAsReceived } from "../fakes/fabric-messages.ts";
import { helloOf, nodeRef, updateOf } from "../fakes/fabric-values.ts";
import { rule, set } from "../fakes/policies.ts";
import { Bench } from "../fakes/policy-bench.ts";

const WALL_MS = Date.UTC(2026, 10);

/** Whether the setting takes the value. */
function isEnterable(path: string, value: unknown): boolean {
  const row = SETTING_ROWS.find((each) => each.path === path);
  if (row === undefined) throw new Error(`no setting ${path}`);
  return "value" in row.setting.parse(value);
}

/** Whether peers take what a node says of itself: off the wire, and as a member. */
function isTaken(more: Partial<MemberUpdate>): boolean {
  const update = updateOf("n1", more);
  try {
    const request = { kind: "pushPull", from: nodeRef(update.nodeId), isJoin: true, members: [update] } as const;
    const read = callAsReceived(request);
    const peer = new MemberBench({ wallMs: WALL_MS });
    const answer = peer.ask(read);
    return answer?.kind === "pushPull" && answer.ownUpdateRefused === undefined && peer.held(update.nodeId) !== undefined;
  } catch {
    return false;
  }
}

const word = (length: number): string => "x".repeat(length);
const words = (count: number, length: number): readonly string[] => Array.from({ length: count }, (_, i) => `${i}`.padStart(length, "x"));
const pairs = (count: number, key: number, value: number): Readonly<Record<string, string>> =>
  Object.fromEntries(words(count, key).map((name) => [name, word(value)]));

const { maxIdLength, maxRoles, maxLabels, maxLabelKeyLength, maxLabelValueLength } = NODE_BOUNDS;

/** What a node says of itself, by the setting that says it: the most, and one more. */
const FACTS: readonly {
  readonly path: string;
  readonly field: string;
  readonly most: unknown;
  readonly more: unknown;
  readonly said?: (value: unknown) => unknown;
}[] = [
  ...["id", "cluster_id", "region", "zone"].map((name) => ({
    path: `node.${name}`,
    field: name === "id" ? "nodeId" : name.replace("_id", "Id"),
    most: word(maxIdLength),
    more: word(maxIdLength + 1),
  })),
  { path: "node.roles", field: "roles", most: words(maxRoles, maxIdLength), more: words(maxRoles + 1, 2) },
  { path: "node.roles", field: "roles", most: [word(maxIdLength)], more: [word(maxIdLength + 1)] },
  { path: "node.labels", field: "labels", most: pairs(maxLabels, maxLabelKeyLength, 64), more: pairs(maxLabels + 1, 2, 1) },
  { path: "node.labels", field: "labels", most: pairs(1, maxLabelKeyLength, 1), more: pairs(1, maxLabelKeyLength + 1, 1) },
  { path: "node.labels", field: "labels", most: pairs(1, 1, maxLabelValueLength), more: pairs(1, 1, maxLabelValueLength + 1) },
  {
    path: "listen.advertise_host",
    field: "address",
    most: word(253),
    more: word(254),
    said: (host) => `${host as string}:65535`,
  },
];

test.each(FACTS)(
  "$path: what may be entered is taken as $field, and no more is, on either side",
  ({ path, field, most, more, said = (value) => value }) => {
    expect([isEnterable(path, most), isTaken({ [field]: said(most) })]).toEqual([true, true]);
    expect([isEnterable(path, more), isTaken({ [field]: said(more) })]).toEqual([false, false]);
  },
);

test("Why: what one node's entries may be every node must hold: each limit of entries is a bound of the protocol, the top of its range", () => {
  const limits = SETTING_ROWS.filter(({ path, name }) => path.startsWith("limits.max_") && name !== "maxKeys");
  expect(Object.fromEntries(limits.map(({ name, setting }) => [name, (setting as { max?: number }).max]))).toEqual(RECORD_BOUNDS);
});

test("a policy may name every namespace that entries may be in, and ids as long as settings give nodes and tenants", () => {
  const { maxNamespaceLength, maxLabelLength } = PROTOCOL_BOUNDS;
  const longest = Array.from({ length: 4 }, () => word(maxLabelLength))
    .join(".")
    .slice(0, maxNamespaceLength);
  expect(longest).toHaveLength(maxNamespaceLength);
  const id = word(maxIdLength);
  expect(validate(set([rule(longest, { owners: [id], visibility: [id], visibilityTenants: [id] })]))).toEqual([]);
  expect(validate(set([rule(`${longest}x`)]))).toHaveLength(1);
  expect(validate(set([rule(`${longest.slice(0, maxNamespaceLength - 2)}.*`)]))).toEqual([]);
});

test("lists of settings that go to peers, or name them, are as long as is read", () => {
  const many = (count: number) => words(count, 8).map((name) => `${name}:17421`);
  expect(isEnterable("fabric.seeds", many(NODE_BOUNDS.maxSeeds))).toBe(true);
  expect(isEnterable("fabric.seeds", many(NODE_BOUNDS.maxSeeds + 1))).toBe(false);
  const greet = (count: number) => asReceived({ kind: "hello", hello: helloOf("n1", { policyFrom: many(count) }) });
  expect(greet(NODE_BOUNDS.maxPolicyFrom)).toMatchObject({ hello: { policyFrom: many(NODE_BOUNDS.maxPolicyFrom) } });
  expect(() => greet(NODE_BOUNDS.maxPolicyFrom + 1)).toThrow("has more than");
  const links = SETTING_ROWS.find(({ path }) => path === "fabric.max_links")?.setting;
  const linked = { kind: "linked", nodeIds: many((links as { max?: number } | undefined)?.max ?? 0) } as const;
  expect(asReceived(linked)).toEqual(linked);
});

test("10,000 rules with long names fit", async () => {
  const name = (i: number) => `shop.${"x".repeat(40)}.n${i}`;
  const largest = set(Array.from({ length: 10_000 }, (_, i) => rule(name(i), { visibility: [name(i)], owners: [name(i)] })));
  const bench = new Bench(openMemoryStore());
  await bench.apply(largest);
  const { newest } = bench.engine;
  expect(newest && encodeVersion(newest).length).toBeLessThan(POLICY_BOUNDS.maxVersionBytes);
  expect(new TextEncoder().encode(formatPolicyFile(largest, "yaml")).length).toBeLessThan(POLICY_BOUNDS.maxFileBytes);
});

/**
 * The same name and number, for another thing: windows of log lines, lists of a message, the client library, which has no
 * settings, and the HTTP edge, whose streams are no setting.
 */
const OTHER_THINGS = [
  "src/client/channel.io.ts: keepaliveTimeMs",
  "src/client/channel.io.ts: keepaliveTimeoutMs",
  "src/fabric/borders/border-links.ts: windowMs",
  "src/fabric/links/call-guard.ts: windowMs",
  "src/fabric/links/links.ts: windowMs",
  "src/node/identity/join-endpoint.io.ts: windowMs",
  "src/server/edge/sockets.io.ts: maxStreams",
  "src/summary/held/chores.ts: windowMs",
  "src/summary/held/refusals.ts: windowMs",
  "src/summary/held/refusals.ts: windowMs",
];

test("Why: of two places for a default one goes stale: no constant of the program repeats a setting's default under its name", () => {
  const again: string[] = [];
  const defaults = new Map(SETTING_ROWS.map(({ name, setting }) => [name, setting.default]));
  for (const file of readdirSync("src", { recursive: true, encoding: "utf8" }).filter((each) => each.endsWith(".ts"))) {
    if (file.startsWith("config/") || file === "lib/bounds.ts") continue;
    for (const [, name = "", value = ""] of readFileSync(`src/${file}`, "utf8").matchAll(/\b(\w+): (\d[\d_]*)\b(?! \*)/g))
      if (defaults.get(name) === Number(value.replaceAll("_", "")) && value !== "0") again.push(`src/${file}: ${name}`);
  }
  expect(again.toSorted()).toEqual(OTHER_THINGS);
});

test("machines get complete options: no constructor fills in what its caller leaves out", () => {
  const partial = readdirSync("src", { recursive: true, encoding: "utf8" }).filter(
    (file) =>
      file.endsWith(".ts") &&
      /Partial<\w*(?:Options|Limits|Bounds)>(?! *;)/.test(readFileSync(`src/${file}`, "utf8").replaceAll(/satisfies Partial<\w+>/g, "")),
  );
  // The store's bounds are constants of its room; only tests choose others.
  expect(partial).toEqual(["store/control/sqlite.io.ts"]);
});
