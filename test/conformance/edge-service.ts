/** The unary methods of the suite's service behind the HTTP edge, and a chain that answers them with whatever headers and codes the suite wants. */
import { AsyncLocalStorage } from "node:async_hooks";
import { create, createRegistry, type DescMethod, setExtension, toBinary } from "@bufbuild/protobuf";
import { type Any, anyPack, anyUnpack, MethodOptionsSchema } from "@bufbuild/protobuf/wkt";
import { AccessSchema, access, CallSchema, Cost, call, Role } from "../../gen/waymark/options/v1/options_pb.js";
import { RECORD_BOUNDS } from "../../src/lib/bounds.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import { CallChain, MethodChain, type UnaryExchange } from "../../src/server/chain.ts";
import type { EdgeRequest, EdgeResponse } from "../../src/server/edge/sockets.io.ts";
import { type SentRequest, UndecodedRequest } from "../../src/server/request-shape/plan.ts";
import type { ErrorDetail, RpcStatus } from "../../src/server/status.ts";
import { TurnBudget } from "../../src/server/turn-budget.ts";
import type { MethodHandler, ServiceDefinition } from "../../src/services/service.ts";
import {
  ConformancePayload_RequestInfoSchema,
  ConformanceService,
  file_connectrpc_conformance_v1_service,
  type Header,
  HeaderSchema,
  type IdempotentUnaryRequest,
  type Error as SuiteError,
  type UnaryRequest,
} from "./gen/connectrpc/conformance/v1/service_pb.js";

/** What a call came in and goes out by: handlers of ours set no headers, but the suite wants some. */
export const exchanges = new AsyncLocalStorage<{ readonly request: EdgeRequest; readonly response: EdgeResponse }>();

export const registry = createRegistry(file_connectrpc_conformance_v1_service);

/** With the options that every rpc of ours has. */
function declared(method: DescMethod): DescMethod {
  const options = create(MethodOptionsSchema);
  setExtension(options, access, create(AccessSchema, { role: Role.NONE }));
  setExtension(options, call, create(CallSchema, { cost: Cost.READ }));
  return { ...method, proto: { ...method.proto, options } };
}

const methods = ConformanceService.methods.filter(({ methodKind }) => methodKind === "unary").map(declared);

export const conformanceEdgeService: ServiceDefinition = { desc: { ...ConformanceService, methods }, handlers: {} };

class ConformanceChain extends CallChain {
  override method(desc: DescMethod, handler: MethodHandler | undefined): MethodChain {
    return new ConformanceMethod(this, desc, handler);
  }
}

class ConformanceMethod extends MethodChain {
  override judgeHeaders(): undefined {}

  override unary(sent: SentRequest, exchange: UnaryExchange): void {
    const request = sent instanceof UndecodedRequest ? sent.read() : sent;
    if (request instanceof WaymarkError) return exchange.fail(plainStatus(this.status(request, "")), "");
    if (this.name === "Unimplemented") return exchange.fail(plainStatus(this.status(new WaymarkError("unimplemented", this.path), "")), "");
    // The test counts these lines: the suite must have asked for both ways.
    console.error(new Error("way").stack?.includes("plain-call.") === true ? "answered without Connect" : "answered through Connect");
    answer(this.desc, request as UnaryRequest | IdempotentUnaryRequest, exchange);
  }
}

export const conformanceChain = new ConformanceChain({
  now: () => ({ monoMs: performance.now(), wallMs: Date.now() }),
  identify: (_header, { address }) => anonymousCaller("local", address, []),
  later: (act, delayMs) => {
    const timer = setTimeout(act, delayMs);
    return () => clearTimeout(timer);
  },
  turn: new TurnBudget({ nowMs: () => performance.now(), onEnd: setImmediate }),
  listBounds: RECORD_BOUNDS,
  idPrefix: "suite",
  metrics: new Metrics(),
  onBug: (fault) => console.error(fault),
});

function answer(desc: DescMethod, request: UnaryRequest | IdempotentUnaryRequest, exchange: UnaryExchange): void {
  const { arrival } = exchange;
  const { responseDefinition: definition } = request;
  const info = requestInfo(arrival.timeoutMs, anyPack(desc.input, request));
  let isOpen = true;
  const settle = (act: () => void) => {
    if (!isOpen) return;
    isOpen = false;
    setHeaders(definition?.responseHeaders ?? [], "");
    setHeaders(definition?.responseTrailers ?? [], "trailer-");
    act();
  };
  const forget = arrival.onDeadline(() => settle(() => exchange.fail(statusOf({ code: 4, message: "too late", details: [] }, []), "")));
  const reply = () => {
    forget?.();
    const response = definition?.response;
    if (response?.case === "error")
      return exchange.fail(statusOf(response.value, [anyPack(ConformancePayload_RequestInfoSchema, info)]), "");
    const data = response?.case === "responseData" ? response.value : new Uint8Array();
    const made = create(desc.output, { payload: { data, requestInfo: info } });
    // Bytes, as our own services answer.
    exchange.succeed(toBinary(desc.output, made), {} as never);
  };
  setTimeout(() => settle(reply), definition?.responseDelayMs ?? 0);
}

function requestInfo(timeoutMs: number | undefined, request: Any) {
  const target = exchanges.getStore()?.request.url ?? "";
  const query = new URLSearchParams(target.split("?")[1] ?? "");
  const headersOf = (pairs: Iterable<readonly [string, string]>) =>
    [...Map.groupBy(pairs, ([name]) => name)].map(([name, all]) => create(HeaderSchema, { name, value: all.map(([, value]) => value) }));
  return create(ConformancePayload_RequestInfoSchema, {
    requestHeaders: headersOf(receivedHeaders()),
    ...(timeoutMs === undefined ? {} : { timeoutMs: BigInt(timeoutMs) }),
    requests: [request],
    ...(query.size === 0 ? {} : { connectGetInfo: { queryParams: headersOf(query) } }),
  });
}

function* receivedHeaders(): Generator<readonly [string, string]> {
  const raw = exchanges.getStore()?.request.rawHeaders ?? [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = (raw[at] ?? "").toLowerCase();
    if (!name.startsWith(":")) yield [name, raw[at + 1] ?? ""];
  }
}

function setHeaders(headers: readonly Header[], prefix: string): void {
  for (const { name, value } of headers) exchanges.getStore()?.response.setHeader(`${prefix}${name.toLowerCase()}`, [...value]);
}

function statusOf({ code, message, details }: Pick<SuiteError, "code" | "message" | "details">, more: readonly Any[]): RpcStatus {
  const unpacked = [...details, ...more].map((any): ErrorDetail => {
    const desc = registry.getMessage(any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1));
    const value = desc === undefined ? undefined : anyUnpack(any, desc);
    if (desc === undefined || value === undefined) throw new Error(`a detail of the unknown type ${any.typeUrl}`);
    return { desc, value };
  });
  return { code: code as number as RpcStatus["code"], reason: "internal", message: message ?? "", details: unpacked };
}

/** Without details of ours: the suite does not know their types. */
function plainStatus(status: RpcStatus): RpcStatus {
  return { ...status, details: [] };
}
