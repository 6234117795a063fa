/**
 * How each field of an entry is stored: a line a field of the contract, with the content of an entry that has its key and that field. A new
 * field is one line more (`npm run golden`); the other lines were written by released code, stay as they are, and must be read for ever.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create, type DescField } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { KIND_OF_DETAIL, WORD_OF_KIND } from "../../gen/waymark/catalog/v1/entry_kinds.ts";
import { CheckSchema, EntrySchema, LoadReportSchema, TargetSchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { decodeMessage, EntryStamper, finishEntry } from "../../src/catalog/entry/codec.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { DETAILS, sampleOf } from "../fakes/any-entry.ts";
import { BOUNDS } from "../fakes/options.ts";
import { WALL } from "../fakes/registry.ts";

const FILE = join(import.meta.dirname, "bytes", "entry-fields.txt");
const STAMP = { nodeId: "n1", clusterId: "c1", region: "eu", zone: "eu-a", tenantId: "acme", receivedWallMs: WALL };
/** The server says these, whatever is sent. */
const STAMPED = [
  "key",
  "cluster_id",
  "region",
  "node_id",
  "tenant_id",
  "registered_at",
  "updated_at",
  "registered_by_admin",
  "reported_health",
  "check_states",
  "maintenance",
];
/** These are shown field by field: a new field of theirs must not change their line. */
const SHOWN_BELOW = ["targets", "load", "checks"];

interface Line {
  readonly name: string;
  readonly init: object;
}

const lineOf =
  (prefix: string, around: (init: object) => object) =>
  (field: DescField): Line => ({ name: `${prefix}${field.name}`, init: around({ [field.localName]: sampleOf(field) }) });

/** Only code says that a lowest status is not above the highest. */
const HTTP = { path: "/healthz", statusMin: 200, statusMax: 399, tls: true };
/** Any kind would be another one when there is one kind more. */
const ALIAS = { key: { kind: 2, namespace: "svc", name: "web", instanceId: "1" } };
const TCP = { interval: { seconds: 3600n }, probe: { case: "tcp", value: {} } };
const inCheck = (check: object): object => ({ targets: [{ name: "http", host: "web", port: 1 }], checks: [check] });

const LINES: readonly Line[] = [
  ...EntrySchema.fields
    .filter(({ oneof, name }) => oneof === undefined && ![...STAMPED, ...SHOWN_BELOW].includes(name))
    .map(lineOf("", (init) => init)),
  ...TargetSchema.fields.map(lineOf("targets.", (init) => ({ targets: [{ host: "web", port: 1, ...init }] }))),
  ...LoadReportSchema.fields.map(lineOf("load.", (load) => ({ load }))),
  ...CheckSchema.fields.map((field): Line => {
    if (field.oneof === undefined) return lineOf("checks.", (init) => inCheck({ ...TCP, ...init }))(field);
    const value = { http: HTTP, alias: ALIAS }[field.localName] ?? sampleOf(field);
    return { name: `checks.${field.name}`, init: inCheck({ probe: { case: field.localName, value } }) };
  }),
  ...DETAILS.map(({ name }) => ({ name, init: { detail: { case: name, value: {} } } })),
  ...DETAILS.flatMap(({ name, message }) => message.fields.map(lineOf(`${name}.`, (value) => ({ detail: { case: name, value } })))),
];

function stored({ name, init }: Line): Uint8Array {
  const detail = Object.entries(KIND_OF_DETAIL).find(([word]) => word === name.split(".")[0]);
  const key = { kind: detail?.[1] ?? 1, namespace: "svc", name: "web", instanceId: "1" };
  const message = create(EntrySchema, { key, ...init });
  const { content, load } = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(8) }).entryOf(message, 0, STAMP);
  return finishEntry(content, { registeredWallMs: WALL, updatedWallMs: WALL, load });
}

test("every field is still written as it was", async () => {
  const text = LINES.map((line) => `${line.name} ${Buffer.from(stored(line)).toString("hex")}\n`).join("");
  await expect(text).toMatchFileSnapshot(FILE);
});

test("every field that was written is still read, by us as by protobuf-es", () => {
  const kept = readFileSync(FILE, "utf8").trim().split("\n");
  expect(kept.length).toBeGreaterThan(40);
  for (const line of kept) {
    const [name = "", hex = ""] = line.split(" ");
    const bytes = Buffer.from(hex, "hex");
    const { kind } = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(8) }).entryOfStored(bytes);
    const message = decodeMessage(bytes);
    const [first = "", second] = name.split(".");
    if (first in KIND_OF_DETAIL) expect([WORD_OF_KIND[kind], message.detail.case]).toEqual([first, first]);
    expect(message.$unknown, `${first} ${second}`).toBe(undefined);
  }
});
