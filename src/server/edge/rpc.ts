/**
 * The services as Connect handlers (Connect, gRPC-Web and gRPC, JSON and binary), with the same chain as the gRPC listener. This file does not open a
 * socket. `listener.io.ts` passes the requests to it.
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
  /** Maximum size of a message, before and after inflation. */
  readonly maxMessageBytes: number;
  readonly compression: readonly Compression[];
  /** Types that a `google.protobuf.Any` may contain in JSON. Waymark's services have no such field. */
  readonly registry?: Registry | undefined;
}

const CALL = createContextKey<EdgeCall | undefined>(undefined);

/** An rpc served by the edge. */
export interface EdgeMethod {
  readonly handler: UniversalHandler;
  readonly chain: MethodChain;
  /** Answers plain JSON calls. Undefined for streams. */
  readonly plain: PlainMethod | undefined;
  /** Whether a call may change data. */
  readonly isWrite: boolean;
}

/** Returns the methods by path `/<package>.<Service>/<Method>`. */
export function edgeMethods(options: EdgeRpcOptions): ReadonlyMap<string, EdgeMethod> {
  const jsonOptions = { ignoreUnknownFields: false, ...(options.registry !== undefined && { registry: options.registry }) };
  const router = createConnectRouter({
    acceptCompression: [...options.compression],
    readMaxBytes: options.maxMessageBytes,
    jsonOptions,
    requestGate: (context) => gateRequest(context, options.chain),
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
 * Prepares a request for a handler. Replaces Connect's timeout, because its timers overflow at 25 days. Removes the content length, because
 * Connect would allocate that much memory before any data has arrived. A content length over the limit is kept, so that the request is rejected
 * immediately.
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

/**
 * Removes a well-formed timeout from the headers and returns it. An invalid timeout is kept. Connect then rejects it in the form that its protocol
 * defines.
 */
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
  // The descriptor is copied because the DescMethod type does not include its kind.
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
  if (call === undefined) throw new Error("a request reached Connect outside a call");
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
 * Runs first for each request, before Connect reads the body, and rejects the request if it can be rejected because of its headers. Connect's own
 * rejections (malformed JSON, too large, unknown compression) have no reason or details and never reach an implementation. However, each of Connect's
 * protocols aborts the context with the error before it writes the error. The abort listener adds the reason and details, and counts the call as if
 * the chain had rejected it.
 */
async function gateRequest(context: HandlerContext, chain: CallChain): Promise<void> {
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
  // Errors that do not come from Connect are stream errors: the client disconnected, or the stream was reset because the client was slow.
  const refusal = error instanceof ConnectError && !isGivenUp(error) ? readFault(error, context, call) : undefined;
  call.admit();
  if (refusal === undefined) {
    method.finish(call.arrival, method.now(), 1);
    return;
  }
  const fail = (status: RpcStatus) => {
    const { code, rawMessage, details, message, metadata } = connectError(status);
    if (error instanceof ConnectError) Object.assign(error, { code, rawMessage, details, message, metadata });
  };
  // This is set now, because the caller may be identified only after the error is written.
  fail(method.status(refusal, call.arrival.requestId));
  method.unary(refusal, { arrival: call.arrival, succeed: () => {}, fail });
}

function readFault(error: ConnectError, context: HandlerContext, call: EdgeCall): WaymarkError {
  // A parser's error is kept as the cause. Connect's own errors, such as for a timeout, have no cause.
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

/** Returns the JSON of a GET. Returns undefined if the JSON is compressed, because the call then provides the inflated text. */
function messageOf(url: string): string | undefined {
  const { searchParams: query } = new URL(url);
  if ((query.get("compression") ?? "identity") !== "identity") return undefined;
  const message = query.get("message") ?? "";
  return query.get("base64") === "1" ? Buffer.from(base64Decode(message)).toString("utf8") : message;
}
