/** One table of bounds: the top of what settings allow a node to say is what its peers take, and nothing more can be said than entered. */
import { expect, test } from "vitest";
import { DEFAULT_BOUNDS, PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { LIMIT_SETTINGS } from "../../../src/config/limits.ts";
import { SETTING_ROWS } from "../../../src/config/settings.ts";
import { MEMBERSHIP_DEFAULTS } from "../../../src/fabric/membership/options.ts";
import { updateFault } from "../../../src/fabric/membership/update-rules.ts";
import { decodeCallRequest, encodeCallRequest } from "../../../src/fabric/wire/call-codec.ts";
import type { MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { MESSAGE_BOUNDS } from "../../../src/fabric/wire/validation.ts";
import { NODE_BOUNDS } from "../../../src/lib/bounds/node.ts";
import { RECORD_BOUNDS } from "../../../src/lib/bounds/record.ts";
import { validate } from "../../../src/policy/set/validation.ts";
import { updateOf } from "../../fakes/fabric-values.ts";
import { rule, set } from "../../fakes/policies.ts";

const WALL_MS = Date.UTC(2026, 10);

/** Whether the setting takes the value. */
function isEnterable(path: string, value: unknown): boolean {
  const row = SETTING_ROWS.find((each) => each.path === path);
  if (row === undefined) throw new Error(`no setting ${path}`);
  return row.setting.schema.safeParse(value).success;
}

/** Whether peers take what a node says of itself: off the wire, and as a member. */
function isTaken(more: Partial<MemberUpdate>): boolean {
  const update = updateOf("n1", more);
  try {
    const request = { kind: "pushPull", from: { nodeId: "n1", generation: 1 }, isJoin: true, members: [update] } as const;
    const read = decodeCallRequest("pushPull", encodeCallRequest(request));
    return read.kind === "pushPull" && read.members.every((each) => updateFault(each, WALL_MS) === undefined);
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

test("Why: what one entry may be here another node must hold: each limit of entries is a bound of the protocol, and none is beside it", () => {
  const limits = Object.keys(LIMIT_SETTINGS).filter((name) => name in DEFAULT_BOUNDS);
  expect(limits.toSorted()).toEqual(Object.keys(RECORD_BOUNDS).toSorted());
  for (const name of Object.keys(LIMIT_SETTINGS).filter((each) => each.startsWith("max") && each !== "maxKeys"))
    expect(limits).toContain(name);
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
  expect(isEnterable("fabric.seeds", many(MEMBERSHIP_DEFAULTS.maxSeeds))).toBe(true);
  expect(isEnterable("fabric.seeds", many(MEMBERSHIP_DEFAULTS.maxSeeds + 1))).toBe(false);
  expect(MESSAGE_BOUNDS.maxPolicyFrom).toBe(NODE_BOUNDS.maxPolicyFrom);
  const links = SETTING_ROWS.find(({ path }) => path === "fabric.max_links")?.setting;
  expect((links as { max?: number } | undefined)?.max).toBeLessThanOrEqual(MESSAGE_BOUNDS.maxOrigins);
});
