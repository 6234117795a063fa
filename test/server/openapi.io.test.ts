/** The OpenAPI document is valid, and all that a node answers over HTTP is in it. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { getOption } from "@bufbuild/protobuf";
import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020 } from "ajv/dist/2020.js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { call } from "../../gen/waymark/options/v1/options_pb.js";
import { SERVICES } from "../../gen/waymark/services.ts";
import { ROOT } from "../../scripts/run.ts";
import { loadConfig } from "../../src/config/load.ts";
import { openLog } from "../../src/lib/log.io.ts";
import { startNode } from "../../src/node/node.io.ts";
import type { RunningNode } from "../../src/node/starting.io.ts";
import { goodEntry } from "../fakes/node.ts";

type Json = Readonly<Record<string, unknown>>;

interface Described {
  readonly $ref?: string;
  readonly content?: Readonly<Record<string, Json>>;
  readonly "x-reasons"?: readonly string[];
}

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name?: string; readonly in?: string }[];
  readonly responses: Readonly<Record<string, Described>>;
  readonly "x-required-role": string;
}

interface Document extends Json {
  readonly paths: Readonly<Record<string, { readonly get?: Operation; readonly patch?: Operation; readonly post?: Operation }>>;
  readonly components: { readonly responses: Readonly<Record<string, Described>> };
}

const TEXT = readFileSync(join(ROOT, "docs/reference/openapi.json"), "utf8");
const DOCUMENT = JSON.parse(TEXT) as Document;
const KEY = "a-key-of-the-tests";

/** The document with schemas that allow only the described fields. */
const STRICT = JSON.parse(TEXT, (_key, value: unknown) => {
  const isMessage = typeof value === "object" && value !== null && "properties" in value && "type" in value && value.type === "object";
  return isMessage ? { ...value, additionalProperties: false } : value;
}) as Document;

const FORMATS = { "date-time": (text: string) => !Number.isNaN(Date.parse(text)), int64: true, uint64: true } as const;
const ajv = new Ajv2020({ strict: false, allErrors: true, formats: FORMATS }).addSchema(STRICT, "document");

function checkJson(value: unknown, place: readonly string[]): void {
  const pointer = place.map((part) => `/${encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))}`).join("");
  const validate = ajv.getSchema(`document#${pointer}`) ?? ajv.compile({ $ref: `document#${pointer}` });
  expect(validate(value), `${place.join(" ")} ${JSON.stringify(value).slice(0, 500)} ${JSON.stringify(validate.errors)}`).toBe(true);
}

let node: RunningNode;

beforeAll(async () => {
  const credential = {
    tenant: "t",
    scheme: "api-key",
    token_sha256: createHash("sha256").update(KEY).digest("hex"),
    roles: ["mesh.admin"],
  };
  const settings = { tenants: { anonymous: "read", credentials: [credential] }, dns: { enabled: false }, fabric: { enabled: false } };
  const flags = new Map<string, string>([
    ["persistence.ephemeral", "true"],
    ["listen.grpc_port", "0"],
    ["listen.http_port", "0"],
  ]);
  const loaded = loadConfig({ file: { name: "node.json", text: JSON.stringify(settings), format: "json" }, env: {}, flags });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  const log = openLog({ level: "silent", scopes: new Map(), format: "json" });
  node = await startNode({ settings: loaded.effective.settings, log, version: "test" });
});
afterAll(() => node.stop());

function ask(target: string, init: RequestInit = {}, isAnonymous = false): Promise<Response> {
  const headers = new Headers(init.headers);
  if (!isAnonymous) headers.set("x-api-key", KEY);
  return fetch(`http://${node.listeners["http"]}${target}`, { ...init, headers });
}

/** Fails unless the document has this response. Returns the JSON of the response. */
async function check(path: string, method: "get" | "patch" | "post", response: Response): Promise<unknown> {
  const { status } = response;
  const at = ["paths", path, method, "responses", String(status)];
  const described = DOCUMENT.paths[path]?.[method]?.responses[status];
  const name = described?.$ref?.split("/").at(-1);
  const found = name === undefined ? described : DOCUMENT.components.responses[name];
  const text = await response.text();
  expect(found, `${method} ${path} ${status} ${text}`).toBeDefined();
  if (found?.content === undefined) {
    expect(text).toBe("");
    return undefined;
  }
  const type = response.headers.get("content-type")?.split(";")[0] ?? "";
  expect([path, ...Object.keys(found.content)]).toEqual([path, type]);
  if (type !== "application/json") return undefined;
  const value: unknown = JSON.parse(text);
  checkJson(value, [...(name === undefined ? at : ["components", "responses", name]), "content", type, "schema"]);
  const reasons = found["x-reasons"];
  if (reasons !== undefined) expect(reasons, `${path} ${text}`).toContain(reasonOf(value));
  return value;
}

function reasonOf(error: unknown): string | undefined {
  const { details } = error as { readonly details: readonly { readonly debug: { readonly reason?: string } }[] };
  return details[0]?.debug.reason?.toLowerCase();
}

const post = (path: string, body: unknown, isAnonymous = false) =>
  ask(path, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" } }, isAnonymous);

/** Calls an rpc with a request that the document allows. Fails unless the document has the answer. */
async function callRpc(path: string, request: unknown): Promise<unknown> {
  checkJson(request, ["paths", path, "post", "requestBody", "content", "application/json", "schema"]);
  const response = await post(path, request);
  expect([path, response.status]).toEqual([path, 200]);
  return check(path, "post", response);
}

const GETS = Object.entries(DOCUMENT.paths).flatMap(([path, { get }]) => (get === undefined ? [] : [{ path, get }]));
const QUERIES: Readonly<Record<string, string>> = {
  "/control/shards": "?namespace=svc.market",
  "/control/shards/diff": "?namespace=svc.market",
  "/control/rebalance-plans": "?namespace=svc.market",
  "/control/events/shards": "?namespace=svc.market",
  "/discovery/policy": "?namespace=svc.market",
  "/discovery/summary": "?scope=zone&kind=service,topic",
  "/control/peers": "?statuses=alive,suspect",
};

/** A target that matches a path. */
function targetOf(path: string, query = QUERIES[path] ?? ""): string {
  return path.replace("{node_id}", node.nodeId) + query;
}

test("the document is valid OpenAPI 3.1, and has every unary rpc and every route once", async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(JSON.parse(TEXT) as Record<string, unknown>);
  expect(errors).toBeUndefined();
  expect([valid, validator.version]).toEqual([true, "3.1"]);
  const operations = Object.values(DOCUMENT.paths).flatMap((each) => Object.values(each));
  expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length);
  const methods = Object.values(SERVICES).flatMap((service) => [...service.methods]);
  const unary = methods.filter(({ methodKind }) => methodKind === "unary").map(({ parent, name }) => `/${parent.typeName}/${name}`);
  const described = Object.entries(DOCUMENT.paths).flatMap(([path, each]) =>
    Object.keys(each).map((method) => (method === "get" ? path : `${method.toUpperCase()} ${path}`)),
  );
  const routes = methods.flatMap((method) => getOption(method, call).routes);
  expect(described).toEqual(expect.arrayContaining([...unary.map((path) => `POST ${path}`), ...routes]));
});

test("calls, and what a client then reads with GET, have the described fields and no others", async () => {
  const discovery = "/waymark.discovery.v1.DiscoveryService";
  const entry = goodEntry({ tags: ["blue"], metadata: { a: "1" }, scope: "SCOPE_ZONE", ttl: "60s", service: {} });
  const { leaseId } = (await callRpc(`${discovery}/Register`, { entries: [entry], ttl: "60s" })) as { readonly leaseId: string };
  await callRpc(`${discovery}/Renew`, { leaseIds: [leaseId, "none"] });
  for (const namespace of ["", "svc.market"]) await callRpc(`${discovery}/CatalogQuery`, { namespace, explain: true });
  await callRpc(`${discovery}/Resolve`, { namespace: "svc.market", name: "web" });
  await callRpc(`${discovery}/ServerInfo`, {});
  await callRpc(`${discovery}/SetMaintenance`, { keys: [entry["key"]], on: true, reason: "new disks" });
  await callRpc("/waymark.control.v1.ShardService/Apply", { namespace: "svc.market", settings: { count: 4, service: "web" } });
  await callRpc("/waymark.policy.v1.PolicyService/ApplyPolicy", {
    policy: { version: "v1", defaultAllow: true, rules: [{ namespace: "svc.market", owners: ["t"], visibility: ["local"] }] },
    reason: "test",
  });
  await callRpc("/waymark.policy.v1.PolicyService/Explain", { namespace: "svc.market", action: "ACT_QUERY" });
  for (const name of ["PolicyHistory", "ExportPolicy", "PolicyAudit", "AccessAudit"])
    await callRpc(`/waymark.policy.v1.PolicyService/${name}`, {});
  for (const { path, get } of GETS) {
    const { responses } = get;
    const isEvents = responses["200"]?.content?.["text/event-stream"] !== undefined;
    const response = await ask(targetOf(path));
    if (isEvents) {
      await checkEvents(path, response);
      continue;
    }
    expect([path, response.status]).toEqual([path, path === "/discovery/cache" ? 400 : 200]);
    await check(path, "get", response);
    const etag = response.headers.get("etag");
    expect([path, etag !== null]).toEqual([path, response.ok && responses["304"] !== undefined]);
    if (etag === null) continue;
    const again = await ask(targetOf(path), { headers: { "if-none-match": etag } });
    expect([200, 304]).toContain(again.status);
    await check(path, "get", again);
  }
});

test("routes with a body have the described answers", async () => {
  const path = "/control/peers/{node_id}";
  const self = path.replace("{node_id}", node.nodeId);
  const send = (method: string, target: string, body: unknown, etag: string) =>
    ask(target, { method, body: JSON.stringify(body), headers: { "content-type": "application/json", "if-match": etag } });
  const body = { reason: "test", labels: { rack: "7" }, remove: ["old"], dryRun: false };
  checkJson(body, ["paths", path, "patch", "requestBody", "content", "application/json", "schema"]);
  const labelled = await send("PATCH", self, body, '"0"');
  expect(labelled.status).toBe(200);
  expect(await check(path, "patch", labelled)).toMatchObject({ peer: { labels: { rack: "7" }, etag: labelled.headers.get("etag") } });
  const stale = await send("PATCH", self, body, '"0"');
  expect(stale.status).toBe(412);
  await check(path, "patch", stale);
  const last = await send("POST", `${self}:cordon`, { reason: "test" }, labelled.headers.get("etag") ?? "");
  expect(reasonOf(await check(`${path}:cordon`, "post", last))).toBe("last_ready_node");
  const drained = await send("POST", `${self}:drain`, { reason: "test", force: true, dryRun: true, deadline: "60s" }, '"1"');
  await check(`${path}:drain`, "post", drained);
});

/** Checks the data of the first event. */
async function checkEvents(path: string, response: Response): Promise<void> {
  expect([path, response.status]).toEqual([path, 200]);
  let text = "";
  for await (const piece of response.body ?? []) {
    text += Buffer.from(piece as Uint8Array).toString();
    const [, data] = /^data: (.*)\n/m.exec(text) ?? [];
    if (data === undefined) continue;
    checkJson(JSON.parse(data), ["paths", path, "get", "responses", "200", "content", "text/event-stream", "x-event-data"]);
    return;
  }
  throw new Error(`${path} sent no event`);
}

test("a node serves the document as it is in the file", async () => {
  const response = await ask("/openapi.json", {}, true);
  expect(await response.text()).toBe(TEXT);
  expect(response.headers.get("content-type")).toBe("application/json; charset=utf-8");
});

test("errors have described status codes and reasons: empty and unknown fields, and callers without the role", async () => {
  for (const { path, get } of GETS) {
    const unknown = await ask(`${targetOf(path, "")}?unknown=1`);
    expect([path, unknown.status]).toEqual([path, 400]);
    await check(path, "get", unknown);
    if (get["x-required-role"] === "none") continue;
    const anonymous = await ask(targetOf(path), {}, true);
    expect([path, anonymous.status]).toEqual([path, 401]);
    await check(path, "get", anonymous);
  }
  for (const path of Object.keys(DOCUMENT.paths).filter((each) => DOCUMENT.paths[each]?.post !== undefined)) {
    await check(path, "post", await post(path, {}));
    await check(path, "post", await post(path, {}, true));
    const unknown = await post(path, { unknown: 1 });
    expect([path, unknown.status]).toEqual([path, 400]);
    await check(path, "post", unknown);
  }
});

test("a wrong method and a body of a wrong type have described answers, and calls a described deadline", async () => {
  for (const [path, operations] of Object.entries(DOCUMENT.paths)) {
    const wrong = await ask(targetOf(path), { method: "DELETE" });
    expect([path, wrong.status]).toEqual([path, 405]);
    for (const method of ["get", "patch", "post"] as const) if (operations[method] !== undefined) await check(path, method, wrong.clone());
    for (const method of ["patch", "post"] as const) {
      const operation = operations[method];
      if (operation === undefined) continue;
      const untyped = await ask(targetOf(path), { method: method.toUpperCase(), body: "{}", headers: { "content-type": "text/plain" } });
      expect([path, untyped.status]).toEqual([path, 415]);
      await check(path, method, untyped);
      expect(operation.parameters).toContainEqual({ $ref: "#/components/parameters/ConnectTimeoutMs" });
    }
  }
});
