/** Writes the OpenAPI document from the rpcs of the protos and the routes of a node. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { DescMessage, DescMethod } from "@bufbuild/protobuf";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { Health } from "../gen/grpc/health/v1/health_pb.js";
import { PeerServiceLagResponseSchema } from "../gen/waymark/control/v1/peer_pb.js";
import { PolicyStatusResponseSchema } from "../gen/waymark/policy/v1/policy_pb.js";
import { SERVICES } from "../gen/waymark/services.ts";
import { codeName, type ErrorReason, REASONS } from "../src/lib/errors.ts";
import { nodeServices } from "../src/node/node.io.ts";
import { HTTP_STATUS, nodeRows } from "../src/server/http-routes.ts";
import { isRefusedByResolvers, requiredAccessOf } from "../src/services/contract.ts";
import { discoveryServices } from "../src/services/discovery/discovery.ts";
import { policyService } from "../src/services/policy.ts";
import { type CallRoute, type EventRoute, type HttpRoute, rpcsOf, type ServiceDefinition } from "../src/services/service.ts";
import { enumWords } from "./docs-schema.ts";
import { DURATION, isRequired, MessageSchemas, type Schema } from "./message-schemas.ts";
import { protoComments } from "./proto-comments.ts";
import { ROOT } from "./run.ts";

const comments = protoComments();
const schemas = new MessageSchemas(comments);
/** The error responses by their reasons. Operations with the same reasons share a response. */
const responses = new Map<string, Schema>();

const object = (properties: Schema): Schema => ({ type: "object", properties });
const json = (schema: Schema) => ({ "application/json": { schema } });
const STRING = { type: "string" };
const STRINGS = { type: "object", additionalProperties: STRING };

/** Text of docs/reference/openapi.json. */
export function openApiDocument(): string {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { readonly version: string };
  const services = [...Object.values(SERVICES), Health];
  const rpcs = services.flatMap(({ methods }) => methods).filter(({ methodKind }) => methodKind === "unary");
  const paths = mergedPaths([
    ...Object.entries(nodeRows(ANYTHING)).map(([path, row]) => ownPath(path, row)),
    ...servicesOfNode().flatMap((service) =>
      (service.routes ?? []).map((route) => ("method" in route ? callPath(route, service) : routePath(route, service))),
    ),
    ...rpcs.map(rpcPath),
  ]);
  const document = {
    openapi: "3.1.1",
    info: { title: "Waymark", version, summary: "Service discovery: the HTTP edge of a node.", description: ABOUT },
    servers: [{ url: "/" }],
    security: [{ bearer: [] }, { apiKey: [] }, { clientCertificate: [] }, {}],
    tags: [
      { name: "node", description: "The serving node." },
      ...services.map(({ typeName }) => ({ name: typeName, description: comments.get(typeName) })),
    ],
    paths,
    components: {
      schemas: { Error: errorSchema(), ...schemas.named },
      responses: { NotModified: NOT_MODIFIED, ...Object.fromEntries([...responses].toSorted(([a], [b]) => (a < b ? -1 : 1))) },
      parameters: { IdempotencyKey: IDEMPOTENCY_KEY, IfMatch: IF_MATCH, IfNoneMatch: IF_NONE_MATCH, ConnectTimeoutMs: CONNECT_TIMEOUT },
      headers: { ETag: { description: "The version of the content.", schema: STRING } },
      securitySchemes: SECURITY,
    },
  };
  return `${JSON.stringify(document, undefined, 1)}\n`;
}

const ABOUT = `The HTTP edge of a Waymark node or resolver: its routes, and every unary rpc as a POST of its request in JSON (the Connect protocol).

- JSON follows the mapping of proto3. Numbers of 64 bits are strings. Responses of rpcs omit fields with their default value. Later versions can add
  fields to responses. A request with an unknown field is rejected.
- An rpc without side effects also accepts \`GET /<package.Service>/<Method>?connect=v1&encoding=json&message=<request>\`.
- Streaming rpcs are absent, because they need a client of gRPC or Connect. The routes of type \`text/event-stream\` send the messages of some of them;
  \`x-event-data\` is the schema of the field \`data\` of an event.
- \`x-required-role\` is the role that the caller needs. The namespace policy also applies. The settings determine whether a credential is required.
- Errors have the schema \`Error\`. \`x-reasons\` lists the values of \`ErrorInfo.reason\`, in lower case, that a response can have.
- A GET route also answers HEAD. Every response has the header \`x-request-id\`.`;

const SECURITY = {
  bearer: { type: "http", scheme: "bearer", description: "A token of the settings, or a signed token (JWT)." },
  apiKey: { type: "apiKey", in: "header", name: "x-api-key" },
  clientCertificate: { type: "mutualTLS" },
};

const IF_NONE_MATCH = { name: "If-None-Match", in: "header", schema: STRING, description: "The ETags of the content that the client has." };
const IF_MATCH = { name: "If-Match", in: "header", schema: STRING, description: 'The same as `etag` of the request, such as `"7"`.' };
const IDEMPOTENCY_KEY = { name: "Idempotency-Key", in: "header", schema: STRING, description: "The same as `requestId` of the request." };
const CONNECT_TIMEOUT = {
  name: "connect-timeout-ms",
  in: "header",
  schema: { type: "string", pattern: "^[0-9]{1,10}$" },
  description: "Deadline of the call in milliseconds.",
};
const TIMEOUT = { $ref: "#/components/parameters/ConnectTimeoutMs" };
const ETAG = { ETag: { $ref: "#/components/headers/ETag" } };
const NOT_MODIFIED = { description: "The client has the current content.", headers: ETAG };

/** Replaces everything that services and routes need to be built. No method of a service is called. */
const ANYTHING: never = new Proxy(() => {}, {
  get: (_target, name) => (name === Symbol.toPrimitive ? () => 0 : ANYTHING),
  apply: () => ANYTHING,
}) as never;

function servicesOfNode(): readonly ServiceDefinition[] {
  const discovery = discoveryServices({ registrar: ANYTHING, reads: ANYTHING, metrics: ANYTHING, identity: ANYTHING } as never);
  const built: Readonly<Record<string, unknown>> = { discovery, policy: { service: policyService(ANYTHING) } };
  const sources = new Proxy(built, { get: (_target, name) => built[String(name)] ?? ANYTHING }) as never;
  return Object.values(nodeServices(ANYTHING, sources));
}

/** Returns the operations by path and method. */
function mergedPaths(operations: readonly PathOperation[]): Schema {
  const merged = new Map<string, Schema>();
  for (const [path, operation] of operations) merged.set(path, { ...merged.get(path), ...operation });
  return Object.fromEntries(merged);
}

// Operations.

/** A path, and an operation by its HTTP method. */
type PathOperation = readonly [string, Schema];

function rpcPath(method: DescMethod): PathOperation {
  const { input, output, parent, name } = method;
  const operation = {
    operationId: `${parent.name}_${name}`,
    ...rpcFacts(method),
    parameters: [TIMEOUT],
    requestBody: { required: true, content: json(schemas.reference(input)) },
    responses: {
      ...answerResponses({ content: json(schemas.reference(output)), isUntagged: true }),
      ...errorsOf(method),
      ...requestErrors("body"),
    },
  };
  return [`/${parent.typeName}/${name}`, { post: operation }];
}

/** A route with a body. Its path and its headers contain fields of the request. */
function callPath({ path, method, rpc: name }: CallRoute, { desc }: ServiceDefinition): PathOperation {
  const rpc = desc.methods.find(({ localName }) => localName === name);
  if (rpc === undefined) throw new Error(`${path} has no rpc`);
  const inPath = fieldsIn(path);
  const required = rpc.input.fields.filter((field) => isRequired(field) && !inPath.includes(field.name));
  const body = { ...schemas.message(rpc.input), required: required.map(({ jsonName }) => jsonName) };
  const operation = {
    operationId: operationId(method, path),
    ...rpcFacts(rpc),
    parameters: [
      ...inPath.map((field) => parameterOf(path, field, [rpc.input])),
      ...["IfMatch", "IdempotencyKey"].map((each) => ({ $ref: `#/components/parameters/${each}` })),
      TIMEOUT,
    ],
    requestBody: { required: true, content: json(body) },
    responses: {
      200: { description: "The answer.", headers: ETAG, content: json(schemas.reference(rpc.output)) },
      ...errorsOf(rpc),
      ...requestErrors("body"),
      412: Object.values(errorResponses(["version_conflict"]))[0],
    },
  };
  return [path, { [method.toLowerCase()]: operation }];
}

function routePath(route: EventRoute | HttpRoute, { desc }: ServiceDefinition): PathOperation {
  const { path } = route;
  const [rpc, ...others] = rpcsOf(route).flatMap((name) => desc.methods.filter(({ localName }) => localName === name));
  if (rpc === undefined) throw new Error(`${path} has no rpc`);
  const inputs = [rpc, ...others].map(({ input }) => input);
  const answer = answerOf(route, rpc.output);
  const parameters = [...fieldsIn(path), ...route.parameters].map((name) => parameterOf(path, name, inputs));
  const operation = {
    operationId: operationId("GET", path),
    ...rpcFacts(rpc, answer.about),
    ...readFacts(answer, "events" in route ? [...parameters, ...EVENT_POSITION] : parameters),
    responses: { ...answerResponses(answer), ...errorsOf(rpc, ...others), ...requestErrors() },
  };
  return [path, { get: operation }];
}

/** Returns the names of the request fields in a path. */
function fieldsIn(path: string): readonly string[] {
  return Array.from(path.matchAll(/\{(\w+)\}/g), ([, name = ""]) => name);
}

function answerOf(route: EventRoute | HttpRoute, output: DescMessage): Partial<Answer> & Pick<Answer, "content"> {
  const message = schemas.reference(output);
  if ("events" in route) return { content: { "text/event-stream": { schema: STRING, "x-event-data": message } }, isUntagged: true };
  return { content: json(message), ...ANSWERS[route.path] };
}

function rpcFacts(method: DescMethod, about = comments.get(`${method.parent.typeName}.${method.name}`) ?? ""): Schema {
  const { role, ownerOf, isForOwners } = requiredAccessOf(method);
  const owner = isForOwners ? "`owner:…` of a changed namespace" : `\`owner:…\` of its \`${ownerOf}\``;
  const needs = role === undefined ? "no role" : `the role \`${role}\`${isForOwners || ownerOf !== undefined ? `, or ${owner}` : ""}`;
  return { tags: [method.parent.typeName], description: `${about}\n\nNeeds ${needs}.`.trim(), "x-required-role": role ?? "none" };
}

// Parameters. They are named like fields of the request. A list of values has the name of one value.

const SUFFIXES = ["", "s", "es", "_prefix", "_id"];

const EVENT_POSITION = [
  { name: "Last-Event-ID", in: "header", schema: STRING, description: "The id of the last event that the client has. Continues after it." },
  { name: "last_event_id", in: "query", schema: STRING, description: "The same, for clients that cannot set the header." },
];

/** Parameters that are not a field of the request, by path and name. */
const PARAMETERS: Readonly<Record<string, Schema>> = {
  "/sd/prometheus tag": { schema: STRING, description: "Only entries with this tag." },
  "/sd/prometheus protocol": { schema: STRING, description: "Only ports with this protocol. All ports except UDP ports by default." },
};

function parameterOf(path: string, name: string, inputs: readonly DescMessage[]): Schema {
  const isInPath = path.includes(`{${name}}`);
  const place = { name, in: isInPath ? "path" : "query", ...(isInPath && { required: true }) };
  const special = PARAMETERS[`${path} ${name}`];
  if (special !== undefined) return { ...place, ...special };
  const fields = inputs.flatMap((input) => input.fields);
  const field = SUFFIXES.flatMap((suffix) => fields.filter((each) => each.name === name + suffix))[0];
  if (field === undefined) throw new Error(`${path}: the parameter ${name} is not a field of ${inputs[0]?.typeName}: add it to PARAMETERS`);
  const { description, ...schema } = schemas.field(field);
  if (field.fieldKind !== "list" && field.fieldKind !== "enum") return { ...place, schema, description };
  const value = field.enum === undefined ? schema["items"] : { type: "string", enum: enumWords(field.enum) };
  if (field.fieldKind === "enum") return { ...place, schema: value, description };
  return { ...place, schema: { type: "array", items: value }, style: "form", explode: false, description };
}

// Errors.

/** Reasons of every call: of its credential, its size, its limits, and the state of the server. */
const GENERAL: readonly ErrorReason[] = [
  ...(["invalid_argument", "unauthenticated", "discovery_access_denied", "discovery_rate_limited", "quota_exceeded"] as const),
  ...(["not_ready", "draining", "unimplemented", "internal", "deadline_exceeded"] as const),
];

/**
 * The error responses of operations: for general reasons, and for the reasons in the comments of their rpcs and services. Comments name `READ_ONLY` for
 * several rpcs together, so an option of the rpc decides.
 */
function errorsOf(...methods: readonly DescMethod[]): Schema {
  const text = methods
    .map(({ parent, name }) => `${comments.get(parent.typeName)} ${comments.get(`${parent.typeName}.${name}`)}`)
    .join(" ");
  const words = new Set(text.match(/\b[A-Z_]+\b/g)?.map((word) => word.toLowerCase()));
  const isRefused = methods.some(isRefusedByResolvers);
  const has = (reason: ErrorReason) => (reason === "read_only" ? isRefused : words.has(reason) || GENERAL.includes(reason));
  return errorResponses((Object.keys(REASONS) as ErrorReason[]).filter(has));
}

function errorResponses(reasons: readonly ErrorReason[]): Schema {
  const byStatus = Map.groupBy(reasons, (reason) => HTTP_STATUS[REASONS[reason]]);
  return Object.fromEntries(
    [...byStatus].map(([status, same]) => {
      const name = same.join(".");
      const description = `Failed: ${same.map((reason) => `\`${reason}\``).join(", ")}.`;
      responses.set(name, { description, content: json({ $ref: "#/components/schemas/Error" }), "x-reasons": same });
      return [status, { $ref: `#/components/responses/${name}` }];
    }),
  );
}

/** The responses to a wrong method and, on paths with a body, to a body of a wrong type. */
function requestErrors(content?: "body"): Schema {
  const [error] = Object.values(errorResponses(["invalid_argument"]));
  return { 405: error, ...(content !== undefined && { 415: error }) };
}

function errorSchema(): Schema {
  const codes = new Set(Object.values(REASONS).map((code) => codeName(code).toLowerCase()));
  const details = [ErrorInfoSchema, BadRequestSchema, RetryInfoSchema];
  const detail = {
    type: { enum: details.map(({ typeName }) => typeName) },
    value: { type: "string", contentEncoding: "base64", description: "The encoded message." },
    debug: { anyOf: details.map((desc) => schemas.reference(desc)), description: "The message in JSON." },
  };
  const properties = {
    code: { enum: [...codes].toSorted() },
    message: { type: "string", description: "For people. Starts with the reason. The text can change." },
    details: { type: "array", items: object(detail) },
  };
  const description = "A rejected request. Programs must match `reason` of the detail `google.rpc.ErrorInfo`.";
  return { ...object(properties), description, required: ["code", "message"] };
}

// Routes whose answers differ from the response of their rpc, or that have no rpc.

interface Answer {
  readonly about: string;
  /** Absent if the answer has only some fields of the rpc's response. */
  readonly content?: Schema;
  /** Whether the route can also send this content with status 503. */
  readonly canFail?: true;
  /** Whether the answer has no ETag. */
  readonly isUntagged?: true;
}

const KIND = { type: ["string", "number", "boolean"] };
const VIEW = object({ namespace: STRING, allowed: { type: "boolean" }, reason: STRING, rule: STRING });
const CHECKS = { type: "array", items: object({ name: STRING, ok: { type: "boolean" }, detail: STRING }) };
const RESOLVER_LAG = object({ servedBy: STRING, upstream: STRING, lag: DURATION });

const ANSWERS: Readonly<Record<string, Answer>> = {
  "/control/lease-health": { about: "Returns the sessions of leaders, and the state of the control store." },
  "/discovery/lag": {
    about: "Returns how far a node is behind each other node, or how far a resolver is behind its upstream.",
    content: json({ anyOf: [schemas.reference(PeerServiceLagResponseSchema), RESOLVER_LAG] }),
  },
  "/discovery/policy": {
    about: "Returns the state of the policy. With `namespace`, it also returns whether the caller can see this namespace.",
    content: json(schemas.message(PolicyStatusResponseSchema, { view: VIEW })),
  },
  "/healthz": { about: "Returns whether the process runs.", content: json(object({ status: STRING })), canFail: true, isUntagged: true },
  "/metrics": {
    about: "Returns metrics in the Prometheus or OpenMetrics text format.",
    content: { "text/plain": { schema: STRING } },
    isUntagged: true,
  },
  "/metrics/persistence": {
    about: "Returns the state of the journal.",
    content: json({ type: "object", additionalProperties: KIND }),
    isUntagged: true,
  },
  "/openapi.json": { about: "Returns this document.", content: json({ type: "object" }) },
  "/readyz": {
    about: "Returns whether the server is ready for calls.",
    content: json(object({ status: { enum: ["ready", "not_ready", "draining"] }, checks: CHECKS })),
    canFail: true,
    isUntagged: true,
  },
  "/sd/prometheus": {
    about: "Returns the ports of all SERVICE entries that the caller can see, for `http_sd_configs` of Prometheus.",
    content: json({ type: "array", items: object({ targets: { type: "array", items: STRING }, labels: STRINGS }) }),
    isUntagged: true,
  },
};

const OWN_REASONS: readonly ErrorReason[] = ["invalid_argument", "unauthenticated", "discovery_access_denied", "not_found", "internal"];

function ownPath(path: string, { access }: ReturnType<typeof nodeRows>[string]): PathOperation {
  const answer = ANSWERS[path];
  if (answer === undefined) throw new Error(`${path} has no rpc: describe its answer in ANSWERS`);
  const isOpen = access === undefined;
  const operation = {
    operationId: operationId("GET", path),
    tags: ["node"],
    description: answer.about,
    "x-required-role": "none",
    ...(isOpen && { security: [] }),
    ...readFacts(answer, []),
    responses: { ...answerResponses(answer), ...errorResponses(isOpen ? ["invalid_argument"] : OWN_REASONS), ...requestErrors() },
  };
  return [path, { get: operation }];
}

function operationId(method: string, path: string): string {
  return `${method.toLowerCase()}${path.replaceAll(/\W+/g, "_")}`;
}

function readFacts({ isUntagged }: Partial<Answer>, parameters: readonly Schema[]): Schema {
  return { parameters: [...parameters, ...(isUntagged ? [] : [{ $ref: "#/components/parameters/IfNoneMatch" }])] };
}

function answerResponses({ content, canFail, isUntagged }: Pick<Answer, "canFail" | "content" | "isUntagged">): Schema {
  return {
    200: { description: "The answer.", ...(!isUntagged && { headers: ETAG }), content },
    ...(!isUntagged && { 304: { $ref: "#/components/responses/NotModified" } }),
    ...(canFail && { 503: { description: "The answer while the server is not ready or does not work.", content } }),
  };
}
