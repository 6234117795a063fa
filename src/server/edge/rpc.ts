/**
 * Our services as Connect handlers (Connect, gRPC-Web and gRPC, JSON and binary), through the same chain as the gRPC
 * listener. Opens no socket: `listener.io.ts` brings the requests.
 */
import type { Message, Registry } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect";
import { type Compression, type UniversalHandler, type UniversalServerRequest } from "@connectrpc/connect/protocol";
import { parseTimeout } from "../../grpc/wire/request-head.ts";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { changesNothing } from "../../services/contract.ts";
import type { ServiceDefinition } from "../../services/service.ts";
import type { CallChain, MethodChain, UnaryExchange } from "../chain.ts";
import { findJsonFault } from "../json-fault.ts";
import type { RpcStatus } from "../status.ts";
import { connectError, decodedAnswer, type EdgeCall, isGivenUp, readingRefusal, unparsed } from "./call.ts";
import { PlainMethod } from "./plain-call.ts";
import { type StreamCall, sourceAnswers, streamAnswers } from "./streams.ts";

export interface EdgeRpcOptions {
  readonly services: readonly ServiceDefinition[];
  readonly chain: CallChain;
  /** Largest message, also after decompression. */
  readonly maxMessageBytes: number;
  readonly compression: readonly Compression[];
  /** Types that a `google.protobuf.Any` may hold in JSON; our own services have no such field. */
  readonly registry?: Registry | undefined;
}

const CALL = createContextKey<EdgeCall | undefined>(undefined);

/** An rpc as the edge answers it. */
export interface EdgeMethod {
  readonly handler: UniversalHandler;
  readonly chain: MethodChain;
  /** Answers plain calls in JSON; undefined where the method is a stream. */
  readonly plain: PlainMethod | undefined;
  /** Whether a call may change something. */
  readonly isWrite: boolean;
}

/** The methods by path `/<package>.<Service>/<Method>`. */
export function edgeMethods(options: EdgeRpcOptions): ReadonlyMap<string, EdgeMethod> {
  const jsonOptions = { ignoreUnknownFields: false, ...(options.registry !== undefined && { registry: options.registry }) };
  const router = createConnectRouter({
    acceptCompression: [...options.compression],
    readMaxBytes: options.maxMessageBytes,
    jsonOptions,
    requestGate: (context) => watchOver(context, options.chain),
  });
  const made: { readonly chain: MethodChain; readonly maxBytes: number }[] = [];
  for (const service of options.services) {
    const { maxRequestBytes } = service;
    const bound = maxRequestBytes === undefined ? undefined : { readMaxBytes: maxRequestBytes };
    for (const desc of service.desc.methods) {
      const chain = options.chain.method(desc, service.handlers[desc.localName]);
      addMethod(router, chain, bound);
      made.push({ chain, maxBytes: maxRequestBytes ?? options.maxMessageBytes });
    }
  }
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return new Map(
    made.flatMap(({ chain, maxBytes }): [string, EdgeMethod][] => {
      const handler = handlers.get(chain.path);
      if (handler === undefined) return [];
      const plain = chain.desc.methodKind === "unary" ? new PlainMethod(chain, { maxBytes, jsonOptions }) : undefined;
      return [[chain.path, { handler, chain, plain, isWrite: !changesNothing(chain.desc) }]];
    }),
  );
}

/**
 * A request for one of the handlers: with our timeout instead of Connect's, whose timers overflow at 25 days, and without a length that it
 * would take the memory for before anything has come. A length over the bound is kept, so that the request is refused immediately.
 */
export function prepareRequest(
  request: UniversalServerRequest,
  call: EdgeCall,
  to: { readonly isUnary: boolean; readonly maxMessageBytes: number },
): UniversalServerRequest {
  call.arrival.timeoutMs = takeTimeout(request.header);
  if (Number(request.header.get("content-length")) <= to.maxMessageBytes) request.header.delete("content-length");
  const { body } = request;
  const contextValues = createContextValues().set(CALL, call);
  const isBytes = typeof body === "object" && body !== null && Symbol.asyncIterator in body;
  return { ...request, contextValues, body: isBytes ? call.tapped(body, to.isUnary) : body };
}

/** Takes a well-formed timeout out of the headers; a malformed one stays for Connect to refuse in its protocol's way. */
function takeTimeout(header: Headers): number | undefined {
  if ((header.get("content-type") ?? "").startsWith("application/grpc")) {
    const timeoutMs = parseTimeout(header.get("grpc-timeout") ?? undefined);
    if (timeoutMs instanceof WaymarkError) return undefined;
    header.delete("grpc-timeout");
    return timeoutMs;
  }
  const text = header.get("connect-timeout-ms") ?? "";
  if (!/^\d{1,10}$/.test(text)) return undefined;
  header.delete("connect-timeout-ms");
  return Number(text);
}

function addMethod(router: ConnectRouter, chain: MethodChain, bound: { readonly readMaxBytes: number } | undefined): void {
  const { desc } = chain;
  const streamOf = (context: HandlerContext): StreamCall => ({ chain, call: admitted(context), signal: context.signal });
  // Spread, since the kind of a DescMethod is not in its type.
  switch (desc.methodKind) {
    case "unary":
      router.rpc({ ...desc, methodKind: "unary" }, (request, context) => answerUnary(chain, request, admitted(context)), bound);
      return;
    case "server_streaming":
      router.rpc({ ...desc, methodKind: "server_streaming" }, (request, context) => sourceAnswers(request, streamOf(context)), bound);
      return;
    case "client_streaming":
    case "bidi_streaming":
      router.rpc({ ...desc, methodKind: "bidi_streaming" }, (requests, context) => streamAnswers(requests, streamOf(context)), bound);
      return;
  }
}

function callOf(context: HandlerContext): EdgeCall {
  const call = context.values.get(CALL);
  if (call === undefined) throw new Error("a request came to Connect without its call");
  return call;
}

function admitted(context: HandlerContext): EdgeCall {
  const call = callOf(context);
  call.admit();
  return call;
}

function answerUnary(chain: MethodChain, request: Message, call: EdgeCall): Promise<Message> {
  return new Promise((resolve, reject) => {
    const succeed: UnaryExchange["succeed"] = (answer) => resolve(decodedAnswer(chain.desc.output, answer));
    chain.unary(request, { arrival: call.arrival, succeed, fail: (status) => reject(connectError(status)) });
  });
}

/**
 * Runs first for each request, before Connect reads its body, and refuses it if its headers alone are a reason. Connect's own refusals (malformed JSON, too large, unknown compression) carry none of our
 * details and never reach an implementation; but each of its protocols aborts the context with the error before it
 * writes it. There it is given its reason and details, and counted, as if the chain had refused.
 */
async function watchOver(context: HandlerContext, chain: CallChain): Promise<void> {
  const call = callOf(context);
  context.responseHeader.set("x-request-id", call.arrival.requestId);
  const onAbort = () => {
    const thrown: unknown = context.signal.reason;
    if (!call.isAdmitted) refuseUnread(thrown, context, { call, chain });
  };
  context.signal.addEventListener("abort", onAbort, { once: true });
  const refusal = await call.judgeHeaders();
  if (refusal !== undefined) throw unparsed(refusal);
}

function refuseUnread(error: unknown, context: HandlerContext, to: { readonly call: EdgeCall; readonly chain: CallChain }): void {
  const { call } = to;
  const method = to.chain.method(context.method, undefined);
  // What is no error of Connect's is one of the stream's: the client went away, or was reset for being slow.
  const refusal = error instanceof ConnectError && !isGivenUp(error) ? unreadable(error, context, call) : undefined;
  call.admit();
  if (refusal === undefined) {
    method.finish(call.arrival, method.now(), 1);
    return;
  }
  const fail = (status: RpcStatus) => {
    const { code, rawMessage, details, message, metadata } = connectError(status);
    if (error instanceof ConnectError) Object.assign(error, { code, rawMessage, details, message, metadata });
  };
  // Now, since a caller may be identified only after the error is written.
  fail(method.status(refusal, call.arrival.requestId));
  method.unary(refusal, { arrival: call.arrival, succeed: () => {}, fail });
}

function unreadable(error: ConnectError, context: HandlerContext, call: EdgeCall): WaymarkError {
  // A parser's complaint is kept as the cause; Connect's own, such as of a timeout, have none.
  const isText =
    error.code === Code.InvalidArgument &&
    call.arrival.encoding === "json" &&
    error.cause instanceof Error &&
    !(error.cause instanceof WaymarkError);
  const fault = isText
    ? findJsonFault(context.method.input, (context.requestMethod === "GET" ? messageOf(context.url) : undefined) ?? call.readText())
    : undefined;
  return fault === undefined ? readingRefusal(error) : invalid(fault.field, fault.description);
}

/** The JSON of a GET, unless that is compressed: then the call has it. */
function messageOf(url: string): string | undefined {
  const { searchParams: query } = new URL(url);
  if ((query.get("compression") ?? "identity") !== "identity") return undefined;
  const message = query.get("message") ?? "";
  return query.get("base64") === "1" ? Buffer.from(base64Decode(message)).toString("utf8") : message;
}
