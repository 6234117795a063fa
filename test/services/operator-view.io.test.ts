/** The operator's view over a real node's inside: it shows what policy hides, with the rules, to operators only, and shares nothing with other views. */
import assert from "node:assert/strict";
import { create, type DescMethod, type DescMethodUnary, fromBinary, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { EntryKind } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { runThrough } from "../../src/lib/machine.ts";
import { EVERY_AUDIT } from "../../src/policy/audit/filter.ts";
import type { RefusedAct } from "../../src/policy/audit/record.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { withOperatorView } from "../../src/services/operator-view.ts";
import type { MethodHandler, StreamSource } from "../../src/services/service.ts";
import { type DiscoveryInside, startDiscovery } from "../fakes/discovery-service.ts";
import { rule, set } from "../fakes/policies.ts";

const NOBODY = anonymousCaller("local", "127.0.0.1");
const GREEN: Caller = { ...NOBODY, principal: "ann", tenant: "green", isAuthenticated: true };
const BLUE: Caller = { ...GREEN, principal: "ben", tenant: "blue" };
const READER: Caller = { ...GREEN, principal: "rea", tenant: "", roles: ["mesh.read"] };
const OPERATOR: Caller = { ...READER, principal: "op", roles: ["mesh.operate"] };
const { catalogQuery, catalogWatch, register, resolve, summaryQuery } = DiscoveryService.method;
const { describeName, listNames, resolveName } = DnsService.method;
const AS_OPERATOR = { viewer: { asOperator: true } };
/** Which namespace each rule of the policy shows to which tenant. */
const shownTo = (tenant: string) => rule(`svc.${tenant}`, { visibilityTenants: [tenant], allowSummaries: true });
const RULES = [shownTo("green"), shownTo("blue")];

class Bench {
  readonly inside: DiscoveryInside;

  constructor(inside: DiscoveryInside) {
    this.inside = inside;
  }

  #handler(method: DescMethod): MethodHandler | undefined {
    const { service, names, core } = this.inside;
    const of = method.parent.typeName === DnsService.typeName ? names : service;
    const onRefused = (refusal: RefusedAct) => core.limits.note(refusal);
    const view = { isResolver: false, zones: ["waymark"], onOperatorView: core.accessLog.onOperatorView, onRefused };
    return withOperatorView(of, view).handlers[method.localName];
  }

  async call<I extends DescMethodUnary["input"], O extends DescMethodUnary["output"]>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    caller = OPERATOR,
  ): Promise<MessageShape<O>> {
    const handler = this.#handler(method);
    assert(handler?.kind === "unary");
    const context = { caller, time: this.inside.now(), requestId: "r-1" };
    const said = await handler.handle(create(method.input, request) as never, context);
    return said instanceof Uint8Array ? fromBinary(method.output, said) : (said as MessageShape<O>);
  }

  watch(request: MessageInitShape<(typeof catalogWatch)["input"]>, caller = OPERATOR): Watching {
    const handler = this.#handler(catalogWatch);
    assert(handler?.kind === "server_streaming");
    const context = { caller, time: this.inside.now(), requestId: "r-1" };
    return new Watching(this.inside, handler.open(create(catalogWatch.input, request) as never, context));
  }

  register(namespace: string, instanceId: string, more: object = {}): Promise<unknown> {
    const entry = {
      key: { kind: EntryKind.SERVICE, namespace, name: "web", instanceId },
      targets: [{ host: "192.0.2.1", port: 80 }],
      ...more,
    };
    return this.call(register, { entries: [entry], staticLease: true }, { ...OPERATOR, roles: ["mesh.admin"] });
  }

  async policy(rules = RULES): Promise<void> {
    const { core } = this.inside;
    const terms = { expectedNumber: core.policies.newestNumber, stage: undefined, principal: "op", reason: "", changeTicket: "" };
    core.policies.commit(runThrough(core.policies.stamped(set(rules, { defaultAllow: true }), terms, this.inside.now().wallMs)), 100);
    await core.switchPolicy();
  }

  /** The records of operator's views, including those of counted refusals, in any order. */
  async audited(): Promise<readonly string[]> {
    this.inside.core.limits.close();
    const { records } = await this.inside.audit.read({ limit: 100, filter: EVERY_AUDIT });
    const own = records.filter(({ action }) => action === "operator_view");
    return own
      .map(({ principal, outcome, reason, namespace, detail }) => [principal, outcome, reason, namespace, detail].join("|"))
      .toSorted();
  }
}

class Watching {
  readonly #inside: DiscoveryInside;
  readonly #stream: StreamSource;

  constructor(inside: DiscoveryInside, stream: StreamSource) {
    this.#inside = inside;
    this.#stream = stream;
    stream.attach(
      () => {},
      () => {},
    );
    onTestFinished(() => stream.close());
  }

  /** The messages that are there now. */
  read() {
    const messages: MessageShape<(typeof catalogWatch)["output"]>[] = [];
    for (let bytes = this.#next(); bytes !== undefined; bytes = this.#next()) messages.push(fromBinary(catalogWatch.output, bytes));
    const hiddenBy = Object.assign({}, ...messages.map((message) => message.hiddenBy)) as Record<string, string>;
    const namespaces = messages.flatMap(({ deltas }) => deltas.map(({ namespace }) => namespace));
    return { messages, hiddenBy, namespaces: namespaces.toSorted() };
  }

  #next() {
    return this.#stream.pull(this.#inside.now());
  }
}

/** Each tenant has two entries in its own namespace, and there is one for everybody. */
async function open(): Promise<Bench> {
  const inside = await startDiscovery();
  onTestFinished(() => inside.stop());
  const bench = new Bench(inside);
  for (const namespace of ["svc.green", "svc.blue"]) for (const id of ["1", "2"]) await bench.register(namespace, id);
  await bench.register("svc.open", "1", { aliases: ["shop.svc.open"] });
  await bench.policy();
  return bench;
}

const namespacesOf = ({ items }: { readonly items: readonly { readonly key?: { readonly namespace: string } | undefined }[] }) =>
  items.map(({ key }) => key?.namespace);
const BOTH = { "svc.green": "svc.green", "svc.blue": "svc.blue" };
const reasonOf = async (call: Promise<unknown>) =>
  call.then(
    () => "ok",
    ({ reason }: { reason: string }) => reason,
  );

test("a query in the operator's view shows all tenants' entries with the rules that hide them, and no other query does", async () => {
  const bench = await open();
  const all = await bench.call(catalogQuery, { namespacePrefix: "svc", ...AS_OPERATOR });
  expect(namespacesOf(all)).toEqual(["svc.blue", "svc.blue", "svc.green", "svc.green", "svc.open"]);
  expect(all.hiddenBy).toEqual(BOTH);
  const one = await bench.call(catalogQuery, { namespace: "svc.blue", ...AS_OPERATOR }, { ...OPERATOR, tenant: "blue" });
  expect([namespacesOf(one), one.hiddenBy]).toEqual([["svc.blue", "svc.blue"], {}]);
  for (const [caller, shown] of [
    [OPERATOR, ["svc.open"]],
    [GREEN, ["svc.green", "svc.green", "svc.open"]],
    [BLUE, ["svc.blue", "svc.blue", "svc.open"]],
  ] as const) {
    const own = await bench.call(catalogQuery, { namespacePrefix: "svc" }, caller);
    expect([namespacesOf(own), own.hiddenBy]).toEqual([shown, {}]);
  }
});

test("Resolve, summaries and DNS answers in the operator's view name the hiding rule", async () => {
  const bench = await open();
  const web = { namespace: "svc.blue", name: "web" };
  expect(await reasonOf(bench.call(resolve, web))).toBe("not_found");
  const resolved = await bench.call(resolve, { ...web, ...AS_OPERATOR });
  expect([resolved.entry?.key?.namespace, resolved.hiddenBy]).toEqual(["svc.blue", { "svc.blue": "svc.blue" }]);
  const described = await bench.call(describeName, { name: "web.svc.blue.waymark", ...AS_OPERATOR });
  expect([described.entries.length, described.hiddenBy]).toEqual([2, { "svc.blue": "svc.blue" }]);
  const name = { name: "web.svc.blue.waymark", explain: true };
  expect(await bench.call(resolveName, name)).toMatchObject({ rcode: "NXDOMAIN", hiddenBy: {} });
  const answer = await bench.call(resolveName, { ...name, ...AS_OPERATOR });
  expect(answer).toMatchObject({ rcode: "NOERROR", hiddenBy: { "svc.blue": "svc.blue" } });
  expect(answer.reasons.map(({ detail }) => detail)).toEqual(
    expect.arrayContaining([
      expect.stringContaining("operator's view"),
      "namespace svc.blue is hidden from this viewer (viewer_denied, rule svc.blue)",
    ]),
  );
  expect(await bench.call(resolveName, { name: "web.svc.open.waymark", ...AS_OPERATOR })).toMatchObject({ rcode: "NOERROR", hiddenBy: {} });
  // The answer above fills no list that other viewers of names read.
  expect(await bench.call(resolveName, name)).toMatchObject({ rcode: "NXDOMAIN", hiddenBy: {} });
  expect(await bench.call(resolveName, { name: "svc.blue.waymark" })).toMatchObject({ rcode: "NXDOMAIN" });
  expect(await reasonOf(bench.call(listNames, AS_OPERATOR))).toBe("invalid_argument");
});

test("summaries in the operator's view name the hiding rules, and their page tokens belong to the view", async () => {
  const bench = await open();
  const own = await bench.call(summaryQuery, { namespacePrefix: "svc", limit: 1 });
  expect([own.items.map(({ namespace }) => namespace), own.hiddenBy]).toEqual([["svc.open"], {}]);
  const first = await bench.call(summaryQuery, { namespacePrefix: "svc", limit: 1, ...AS_OPERATOR });
  expect([first.items.map(({ namespace }) => namespace), first.hiddenBy]).toEqual([["svc.blue"], { "svc.blue": "svc.blue" }]);
  const next = { namespacePrefix: "svc", limit: 1, pageToken: first.nextPageToken };
  expect(await reasonOf(bench.call(summaryQuery, next))).toBe("invalid_argument");
  expect((await bench.call(summaryQuery, { ...next, ...AS_OPERATOR })).hiddenBy).toEqual({ "svc.green": "svc.green" });
});

test("a page token of one view is refused in the other", async () => {
  const bench = await open();
  const page = { namespacePrefix: "", limit: 1 };
  const own = await bench.call(catalogQuery, page, GREEN);
  const all = await bench.call(catalogQuery, { ...page, ...AS_OPERATOR });
  expect([own.nextPageToken, all.nextPageToken]).not.toContain("");
  expect(await reasonOf(bench.call(catalogQuery, { ...page, pageToken: all.nextPageToken }))).toBe("invalid_argument");
  expect(await reasonOf(bench.call(catalogQuery, { ...page, pageToken: own.nextPageToken, ...AS_OPERATOR }))).toBe("invalid_argument");
  expect(await reasonOf(bench.call(catalogQuery, { ...page, pageToken: all.nextPageToken, ...AS_OPERATOR }))).toBe("ok");
});

test("a watch in the operator's view has all entries with the rules, and shares no message with the same caller's other watches", async () => {
  const bench = await open();
  const filter = { namespacePrefix: "svc" };
  const own = bench.watch(filter);
  const all = bench.watch({ ...filter, ...AS_OPERATOR });
  expect(own.read()).toMatchObject({ namespaces: ["svc.open"], hiddenBy: {} });
  const snapshot = all.read();
  expect(snapshot).toMatchObject({ namespaces: ["svc.blue", "svc.blue", "svc.green", "svc.green", "svc.open"], hiddenBy: BOTH });
  await bench.register("svc.blue", "3");
  await bench.register("svc.open", "2");
  expect(all.read()).toMatchObject({ namespaces: ["svc.blue", "svc.open"], hiddenBy: { "svc.blue": "svc.blue" } });
  expect(own.read()).toMatchObject({ namespaces: ["svc.open"], hiddenBy: {} });
  // A policy that hides more changes no entry of this view. Its rules are the ones of the time of the message.
  await bench.policy([...RULES, shownTo("open")]);
  expect(all.read().namespaces).toEqual([]);
  expect(own.read()).toMatchObject({ messages: [{ replaces: ["svc.open"] }, {}], namespaces: [] });
  await bench.register("svc.open", "3");
  expect(all.read()).toMatchObject({ namespaces: ["svc.open"], hiddenBy: { "svc.open": "svc.open" } });
});

test.each(["cursor", "portableCursor"] as const)(
  "a %s of one view does not resume in the other: the watch begins with a snapshot",
  async (field) => {
    const bench = await open();
    const filter = { namespacePrefix: "svc" };
    const ended = (watching: Watching) => watching.read().messages.find(({ snapshot }) => snapshot === Snapshot.END)?.[field] ?? "";
    const cursors = { own: ended(bench.watch(filter)), all: ended(bench.watch({ ...filter, ...AS_OPERATOR })) };
    const begins = (cursor: string, viewer: object) =>
      bench.watch({ ...filter, cursor, ...viewer }).read().messages[0]?.snapshot === Snapshot.BEGIN;
    expect([begins(cursors.own, AS_OPERATOR), begins(cursors.all, {})]).toEqual([true, true]);
    expect([begins(cursors.own, {}), begins(cursors.all, AS_OPERATOR)]).toEqual([false, false]);
  },
);

test("each request for the view is recorded although no reads are sampled, and only operators get it", async () => {
  const bench = await open();
  expect(bench.inside.settings.audit.sampleReads).toBe(0);
  const query = { namespace: "svc.blue", ...AS_OPERATOR };
  expect(await reasonOf(bench.call(catalogQuery, query, READER))).toBe("discovery_access_denied");
  expect(await reasonOf(bench.call(catalogQuery, query, BLUE))).toBe("discovery_access_denied");
  expect(await reasonOf(bench.call(catalogQuery, query, NOBODY))).toBe("unauthenticated");
  expect(() => bench.watch(query, READER)).toThrow("mesh.operate");
  await bench.call(catalogQuery, query);
  bench.watch({ namespacePrefix: "svc", ...AS_OPERATOR });
  await bench.call(catalogQuery, { namespace: "svc.blue" });
  expect(await bench.audited()).toEqual([
    "ben|denied|discovery_access_denied|svc.blue|CatalogQuery",
    "op|allowed||svc.blue|CatalogQuery",
    "op|allowed||svc|CatalogWatch",
    "rea|denied|discovery_access_denied|svc.blue|CatalogQuery",
    "rea|denied|discovery_access_denied|svc.blue|CatalogWatch",
    "|denied|unauthenticated|svc.blue|CatalogQuery",
  ]);
});

test("an explained query tells operators how many matching entries each rule hides, and nobody else that there are any", async () => {
  const bench = await open();
  await bench.register("svc.green", "3", { tags: ["t"] });
  const hidden = async (request: MessageInitShape<(typeof catalogQuery)["input"]>, caller = OPERATOR) => {
    const { explanation } = await bench.call(catalogQuery, { namespacePrefix: "svc", explain: true, ...request }, caller);
    return explanation.filter(({ reason }) => reason === "policy").map(({ key, kept, detail }) => [key, kept, detail]);
  };
  const line = (detail: string) => [undefined, false, detail];
  expect(await hidden({})).toEqual([line("2 entries are hidden by rule svc.blue"), line("3 entries are hidden by rule svc.green")]);
  expect(await hidden({ tags: ["t"] })).toEqual([line("1 entry is hidden by rule svc.green")]);
  expect(await hidden({ namespacePrefix: "", namespace: "svc.blue" })).toEqual([line("2 entries are hidden by rule svc.blue")]);
  expect(await hidden({}, { ...OPERATOR, tenant: "green" })).toEqual([line("2 entries are hidden by rule svc.blue")]);
  expect(await hidden(AS_OPERATOR)).toEqual([]);
  for (const caller of [READER, BLUE, NOBODY]) expect(await hidden({}, caller)).toEqual([]);
  const { nextPageToken } = await bench.call(catalogQuery, { limit: 1, explain: true }, { ...OPERATOR, tenant: "green" });
  expect(await hidden({ namespacePrefix: "", limit: 1, pageToken: nextPageToken }, { ...OPERATOR, tenant: "green" })).toEqual([]);
});
