/** Queries by the names that entries have in DNS: exactly those that carry a name, page by page, and no look at others. */
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EntryKind, type EntrySchema, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  CatalogQueryRequestSchema,
  type CatalogQueryResponse,
  CatalogQueryResponseSchema,
  RegisterRequestSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { assert } from "../../../src/lib/errors.ts";
import { runThrough } from "../../../src/lib/machine.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import { type DiscoveryInside, startDiscovery } from "../../fakes/discovery-service.ts";
import { runs } from "../../fakes/effort.ts";
import { rule, set } from "../../fakes/policies.ts";

const ADMIN: Caller = {
  principal: "p",
  tenant: "green",
  cluster: "local",
  roles: ["mesh.admin", "mesh.resolve"],
  isAuthenticated: true,
  address: "127.0.0.1",
};
/** With the aliases of each, of which DNS ignores case and a dot at the end. */
const CATALOG: Readonly<Record<string, readonly string[]>> = {
  "a.svc/web": ["www.shop", "Shop.example."],
  "b.svc/web": ["www.shop"],
  "b.svc/db": [],
  "b.svc-x/db": ["db.b.svc"],
  "c/one": ["deep.www.shop"],
  "hidden.svc/web": ["www.shop"],
  "svc/root": [],
  "x.c/two": ["www.shop", "two.example"],
};
const HIDDEN = "hidden.svc";

let inside: DiscoveryInside;
beforeAll(async () => {
  inside = await startDiscovery();
  for (const [at, aliases] of Object.entries(CATALOG)) {
    const [namespace = "", name = ""] = at.split("/");
    const key = { kind: EntryKind.SERVICE, namespace, name };
    await register({ key: { ...key, instanceId: "1" }, aliases: [...aliases], tags: ["one"] });
    await register({ key: { ...key, instanceId: "2" }, aliases: [...aliases], scope: Scope.LOCAL });
  }
  const terms = { expectedNumber: 0, stage: undefined, principal: "ann", reason: "", changeTicket: "" };
  const rules = set([rule(HIDDEN, { visibilityTenants: ["blue"] })], { defaultAllow: true });
  inside.core.policies.commit(runThrough(inside.core.policies.stamped(rules, terms, inside.now().wallMs)), 100);
  await inside.core.switchPolicy();
});
afterAll(() => inside.stop());

async function register(entry: MessageInitShape<typeof EntrySchema>): Promise<void> {
  const handler = inside.service.handlers["register"];
  assert(handler?.kind === "unary", "a unary method");
  const request = create(RegisterRequestSchema, { entries: [entry], staticLease: true });
  await handler.handle(request as never, { caller: ADMIN, time: inside.now(), requestId: "" });
}

interface Asked {
  readonly aliases?: string[];
  readonly hosts?: string[];
  readonly namespacePrefix?: string;
  readonly tags?: string[];
  readonly forResolver?: boolean;
  readonly limit?: number;
  readonly pageToken?: string;
  readonly explain?: boolean;
}

function query(request: Asked): CatalogQueryResponse {
  const handler = inside.service.handlers["catalogQuery"];
  assert(handler?.kind === "unary", "a unary method");
  const answer = handler.handle(create(CatalogQueryRequestSchema, request) as never, { caller: ADMIN, time: inside.now(), requestId: "" });
  assert(answer instanceof Uint8Array, "an encoded answer");
  return fromBinary(CatalogQueryResponseSchema, answer);
}

/** All pages, as `namespace/name/instance`. */
function found(request: Asked): readonly string[] {
  const all: string[] = [];
  for (let pageToken = ""; ; ) {
    const page = query({ ...request, pageToken });
    all.push(...page.items.map(({ key }) => `${key?.namespace}/${key?.name}/${key?.instanceId}`));
    pageToken = page.nextPageToken;
    if (pageToken === "") return all;
  }
}

const plain = (name: string) => name.toLowerCase().replace(/\.$/, "");
const isBelow = (name: string, host: string) => name === host || name.endsWith(`.${host}`);

/** What a look at everything finds. */
function wanted({ aliases = [], hosts = [], namespacePrefix = "", tags = [], forResolver = false }: Asked): readonly string[] {
  return Object.entries(CATALOG)
    .toSorted(([a], [b]) => (a.replace("/", "\0") < b.replace("/", "\0") ? -1 : 1))
    .filter(([at, has]) => {
      const [namespace = ""] = at.split("/");
      const names = has.map(plain);
      const isNamed =
        aliases.some((alias) => names.includes(plain(alias))) ||
        hosts.some((host) => [namespace, ...names].some((name) => isBelow(name, plain(host))));
      const isCovered = namespacePrefix === "" || namespace === namespacePrefix || namespace.startsWith(`${namespacePrefix}.`);
      return isNamed && isCovered && (forResolver || namespace !== HIDDEN);
    })
    .flatMap(([at]) => (forResolver || tags.length > 0 ? [`${at}/1`] : [`${at}/1`, `${at}/2`]));
}

const names = fc.constantFrom(
  "www.shop",
  "WWW.shop.",
  "shop",
  "shop.example",
  "example",
  "svc",
  "b.svc",
  "c",
  "db.b.svc",
  "none",
  "vc",
  ".",
);

test("each query finds what a look at everything finds, in order and once, whatever the size of its pages", () => {
  const lists = fc.array(names, { minLength: 1, maxLength: 3 });
  const by = fc.oneof(
    lists.map((aliases) => ({ aliases })),
    lists.map((hosts) => ({ hosts })),
  );
  const more = fc.record({
    namespacePrefix: fc.constantFrom("", "", "b", "svc", "b.svc", "x"),
    tags: fc.constantFrom<string[]>([], [], ["one"]),
    forResolver: fc.boolean(),
    limit: fc.constantFrom(1, 2, 3, 0),
  });
  fc.assert(
    fc.property(by, more, (named, rest) => {
      const request = { ...named, ...rest };
      expect(found(request)).toEqual(wanted(request));
    }),
    { numRuns: runs(300) },
  );
});

test("nothing is looked at that has none of the names", () => {
  const explained = (request: Asked) =>
    query({ ...request, explain: true }).explanation.map(({ key, kept }) => `${key?.namespace}/${key?.name} ${kept}`);
  expect(explained({ aliases: ["two.example"], tags: ["one"] })).toEqual(["x.c/two true", "x.c/two false"]);
  expect(explained({ hosts: ["b.svc"], tags: ["one"] })).toEqual([
    "b.svc/db true",
    "b.svc/db false",
    "b.svc/web true",
    "b.svc/web false",
    "b.svc-x/db true",
    "b.svc-x/db false",
  ]);
});

test("a page token belongs to its names, and the two kinds of names are asked for one at a time", () => {
  const { nextPageToken: pageToken } = query({ aliases: ["www.shop"], limit: 1 });
  for (const [request, field] of [
    [{ aliases: ["shop.example"], pageToken }, "page_token"],
    [{ hosts: ["www.shop"], pageToken }, "page_token"],
    [{ pageToken }, "page_token"],
    [{ aliases: ["www.shop"], hosts: ["svc"] }, "hosts"],
  ] satisfies [Asked, string][]) {
    expect(() => query(request)).toThrow(`invalid_argument: ${field}: `);
  }
});
