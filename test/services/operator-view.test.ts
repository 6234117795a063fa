/** The operator's view is granted by one check, to the calls whose answers can name the rules, and each request for it is recorded. */
import { create, type DescMethod } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { ViewerSchema } from "../../gen/waymark/catalog/v1/viewer_pb.js";
import { CatalogQueryRequestSchema, CatalogWatchRequestSchema, DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import type { RefusedAct } from "../../src/policy/audit/record.ts";
import { anonymousCaller, type Caller, type MeshRole } from "../../src/policy/identity/caller.ts";
import { type OperatorRead, withOperatorView } from "../../src/services/operator-view.ts";
import type { CallContext, MethodHandler, StreamSource } from "../../src/services/service.ts";

const ANYBODY = anonymousCaller("local", "192.0.2.1");
const withRole = (role: MeshRole): Caller => ({ ...ANYBODY, principal: "ann", isAuthenticated: true, roles: [role] });
const OPERATOR = withRole("mesh.operate");
const STREAM: StreamSource = { attach: () => {}, pull: () => undefined, close: () => {} };

/** Calls one method with a request; returns the view that its handler got, or the refusal, and the recorded reads and refusals. */
function ask(
  method: DescMethod,
  init: Record<string, unknown>,
  { caller = OPERATOR, isResolver = false }: { caller?: Caller; isResolver?: boolean } = {},
) {
  const reads: OperatorRead[] = [];
  const refused: Omit<RefusedAct, "caller">[] = [];
  const onOperatorView = (_caller: Caller, read: OperatorRead) => void reads.push(read);
  const onRefused = ({ caller: _caller, ...act }: RefusedAct) => void refused.push(act);
  let seen: boolean | undefined;
  const note = ({ caller: by }: CallContext) => void (seen = by.hasOperatorView === true);
  const handler: MethodHandler =
    method.methodKind === "unary"
      ? { kind: "unary", handle: (_request, context) => (note(context), new Uint8Array()) }
      : { kind: "server_streaming", open: (_request, context) => (note(context), STREAM) };
  const service = { desc: method.parent, handlers: { [method.localName]: handler } };
  const wrapped = withOperatorView(service, { isResolver, zones: ["waymark"], onOperatorView, onRefused }).handlers[method.localName];
  const context: CallContext = { caller, time: { monoMs: 0, wallMs: 0 }, requestId: "r-1" };
  const request = create(method.input, init) as never;
  let refusal = "";
  try {
    if (wrapped?.kind === "unary") void wrapped.handle(request, context);
    if (wrapped?.kind === "server_streaming") wrapped.open(request, context);
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    refusal = `${error.reason}: ${error.message}`;
  }
  return { seen, refusal, reads, refused };
}

const VIEW = { viewer: create(ViewerSchema, { asOperator: true }) };
const METHODS = [DiscoveryService, DnsService, PolicyService, ResolverService].flatMap(({ methods }): readonly DescMethod[] => methods);
const VIEWED = METHODS.filter(({ input }) => input.fields.some(({ message }) => message === ViewerSchema));

describe.each(VIEWED.map((method) => ({ name: method.name, method })))("$name", ({ method }) => {
  const field = method.input.fields.find(({ message }) => message === ViewerSchema);
  const request = { [field?.localName ?? ""]: create(ViewerSchema, { asOperator: true }) };
  const isMarked = ["CatalogQuery", "CatalogWatch", "Resolve", "SummaryQuery", "SummaryWatch", "ResolveName", "DescribeName"].includes(
    method.name,
  );
  const isOfResolver = method.parent === ResolverService;

  test("grants the view only if its answers name the hiding rules, and records the request in both cases", () => {
    const { seen, refusal, reads, refused } = ask(method, request);
    expect(seen).toBe(isMarked && !isOfResolver ? true : undefined);
    expect(refusal === "").toBe(seen === true);
    expect(reads).toMatchObject(seen === true ? [{ requestId: "r-1" }] : []);
    expect(refused).toMatchObject(seen === true ? [] : [{ action: "operator_view", reason: "invalid_argument" }]);
  });

  test("does not change a call without it", () => {
    expect(ask(method, {})).toEqual({ seen: false, refusal: "", reads: [], refused: [] });
  });
});

test.each<{ what: string; caller: Caller; reason: string }>([
  { what: "nobody", caller: ANYBODY, reason: "unauthenticated" },
  { what: "a caller without a role", caller: { ...ANYBODY, isAuthenticated: true }, reason: "discovery_access_denied" },
  { what: "mesh.read", caller: withRole("mesh.read"), reason: "discovery_access_denied" },
  { what: "mesh.resolve", caller: withRole("mesh.resolve"), reason: "discovery_access_denied" },
  { what: "mesh.operate", caller: OPERATOR, reason: "" },
  { what: "mesh.admin", caller: withRole("mesh.admin"), reason: "" },
])("the view for $what ends with the reason '$reason', which the record has too", ({ caller, reason }) => {
  for (const [method, schema] of [
    [DiscoveryService.method.catalogQuery, CatalogQueryRequestSchema],
    [DiscoveryService.method.catalogWatch, CatalogWatchRequestSchema],
  ] as const) {
    const { seen, refusal, reads, refused } = ask(method, create(schema, { ...VIEW, namespacePrefix: "svc" }), { caller });
    expect(seen).toBe(reason === "" ? true : undefined);
    expect(refusal.split(":")[0]).toBe(reason);
    if (reason !== "") expect(refusal).toMatch(/role mesh\.operate to set viewer\.as_operator$/);
    const read = { detail: method.name, namespace: "svc" };
    expect([reads, refused]).toEqual(
      reason === "" ? [[{ ...read, requestId: "r-1" }], []] : [[], [{ ...read, action: "operator_view", reason }]],
    );
  }
});

test.each([
  { name: "Web.svc.Blue.waymark.", namespace: "svc.blue" },
  { name: "web.svc.blue", namespace: "svc.blue" },
  { name: "shop", namespace: "" },
])("the record of the DNS name $name has the namespace '$namespace'", ({ name, namespace }) => {
  expect(ask(DnsService.method.resolveName, { ...VIEW, name }).reads).toMatchObject([{ namespace, detail: `ResolveName ${name}` }]);
});

test.each([
  { what: "a tenant", more: { tenantId: "blue" }, isResolver: false, reason: "invalid_argument" },
  { what: "a cluster", more: { clusterId: "east" }, isResolver: false, reason: "invalid_argument" },
  { what: "a resolver", more: {}, isResolver: true, reason: "read_only" },
])("the view is refused together with $what", ({ more, isResolver, reason }) => {
  const request = { viewer: create(ViewerSchema, { asOperator: true, ...more }), namespace: "svc", name: "web" };
  const { seen, refusal, refused } = ask(DiscoveryService.method.resolve, request, { isResolver });
  expect(seen).toBeUndefined();
  expect(refusal).toMatch(new RegExp(`^${reason}: .*viewer.as_operator`));
  expect(refused).toMatchObject([{ detail: "Resolve web", namespace: "svc", reason }]);
});

test("the field that names the rules has one number in all answers that are built from bytes", () => {
  const { catalogQuery, catalogWatch, summaryQuery, summaryWatch } = DiscoveryService.method;
  const numbers = [catalogQuery, catalogWatch, summaryQuery, summaryWatch].map(({ output }) => output.field.hiddenBy.number);
  expect(new Set(numbers).size).toBe(1);
});

test("a handler that waits is told of the end of the call, also in the operator's view", () => {
  const context: CallContext = { caller: OPERATOR, time: { monoMs: 0, wallMs: 0 }, requestId: "r-1" };
  const onOver = () => {};
  const handler: MethodHandler = { kind: "unary", handle: (_request, given) => ((given.onOver = onOver), new Uint8Array()) };
  const service = { desc: DiscoveryService, handlers: { catalogQuery: handler } };
  const wrapped = withOperatorView(service, { isResolver: false, zones: [], onOperatorView: () => {}, onRefused: () => {} }).handlers[
    "catalogQuery"
  ];
  if (wrapped?.kind === "unary") void wrapped.handle(create(CatalogQueryRequestSchema, VIEW) as never, context);
  expect(context.onOver).toBe(onOver);
});
