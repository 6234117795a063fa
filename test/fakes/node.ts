/** What tests ask a running node: one call through gRPC or HTTP/JSON, and its answer or refusal in one shape. */
import { type DescMethodUnary, fromBinary, fromJson, type JsonObject, type JsonValue, toBinary, toJson } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { type ChannelCredentials, Client, credentials, Metadata } from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { decodeFailure } from "../../src/client/failure.ts";

/** How a call ended; a response is in proto3 JSON, so that one table serves both listeners. */
export interface Answer {
  /** gRPC status name; OK when it was answered. */
  readonly code: string;
  /** ErrorInfo.reason in lower case. */
  readonly reason: string;
  readonly message: string;
  /** Field paths of BadRequest. */
  readonly fields: readonly string[];
  readonly retryMs: number | undefined;
  readonly response: JsonObject;
}

type UnaryName = Exclude<keyof typeof DiscoveryService.method, "keepAlive" | "catalogWatch" | "summaryWatch">;

const CALL_MS = 30_000;
const raw = (bytes: Buffer): Buffer => bytes;

/** A gRPC client of one node; requests and responses in proto3 JSON, or bytes. */
export class GrpcDoor implements Disposable {
  readonly #client: Client;

  constructor(address: string, channelCredentials: ChannelCredentials = credentials.createInsecure()) {
    this.#client = new Client(address, channelCredentials, {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_http_proxy": 0,
      "grpc.max_send_message_length": -1,
      "grpc.initial_reconnect_backoff_ms": 50,
      "grpc.max_reconnect_backoff_ms": 200,
    });
  }

  /** One call. `request` in proto3 JSON, read leniently: unknown enum numbers go through as they are. */
  ask(rpc: UnaryName, request: JsonValue = {}): Promise<Answer> {
    const method: DescMethodUnary = DiscoveryService.method[rpc];
    return this.send(method, toBinary(method.input, fromJson(method.input, request)));
  }

  /** One call with whatever bytes. */
  send(method: DescMethodUnary, bytes: Uint8Array): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const path = `/${method.parent.typeName}/${method.name}`;
    this.#client.makeUnaryRequest(
      path,
      raw,
      raw,
      Buffer.from(bytes),
      new Metadata(),
      { deadline: Date.now() + CALL_MS },
      (error, answer) => {
        if (answer !== undefined) {
          try {
            resolve({ ...OK, response: jsonOf(method, answer) });
          } catch (fault) {
            reject(new Error("the answer could not be read", { cause: fault }));
          }
          return;
        }
        const detail = error?.metadata.get("grpc-status-details-bin")[0];
        const failure = decodeFailure({
          code: error?.code ?? 2,
          message: error?.details ?? "",
          details: detail instanceof Buffer ? detail : undefined,
          isReachable: true,
          server: "",
        });
        const { code, reason = "", violations, retryMs } = failure.facts;
        resolve({
          code,
          reason: reason.toLowerCase(),
          message: failure.message,
          fields: violations.map(({ field }) => field),
          retryMs,
          response: {},
        });
      },
    );
    return promise;
  }

  /** A number of `ServerInfo`; a node moves it by itself when it reports its own load. */
  async revision(): Promise<number> {
    const { code, message, response } = await this.ask("serverInfo");
    if (code !== "OK") throw new Error(`no server info: ${code} ${message}`);
    return Number(response["revision"] ?? 0);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

const OK = { code: "OK", reason: "", message: "", fields: [], retryMs: undefined } as const;

function jsonOf(method: DescMethodUnary, bytes: Uint8Array): JsonObject {
  return objectOf(toJson(method.output, fromBinary(method.output, bytes)));
}

function objectOf(value: JsonValue | undefined): JsonObject {
  return value !== undefined && value !== null && typeof value === "object" && !Array.isArray(value) ? value : {};
}

/** A text of an answer; empty when it is none. */
export function textOf(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}

/** One call over HTTP/JSON. A string is sent as it is, anything else as its JSON. */
export async function askHttp(
  base: string,
  rpc: keyof typeof DiscoveryService.method,
  request: JsonValue,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer & { readonly status: number }> {
  const { name } = DiscoveryService.method[rpc];
  const reply = await fetch(`http://${base}/${DiscoveryService.typeName}/${name}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof request === "string" ? request : JSON.stringify(request),
    signal: AbortSignal.timeout(CALL_MS),
  });
  const said: unknown = await reply.json();
  const body = objectOf(said as JsonValue);
  if (reply.status === 200) return { ...OK, response: body, status: 200 };
  return { ...refusalOf(body), status: reply.status };
}

function refusalOf(body: JsonObject): Answer {
  let reason = "";
  let retryMs: number | undefined;
  const fields: string[] = [];
  for (const each of Array.isArray(body["details"]) ? body["details"] : []) {
    const { type, value } = objectOf(each);
    const bytes = base64Decode(textOf(value));
    if (type === ErrorInfoSchema.typeName) reason = fromBinary(ErrorInfoSchema, bytes).reason.toLowerCase();
    else if (type === BadRequestSchema.typeName)
      fields.push(...fromBinary(BadRequestSchema, bytes).fieldViolations.map(({ field }) => field));
    else if (type === RetryInfoSchema.typeName) retryMs = Number(fromBinary(RetryInfoSchema, bytes).retryDelay?.seconds ?? 0n) * 1000;
  }
  return { code: textOf(body["code"]).toUpperCase(), reason, message: textOf(body["message"]), fields, retryMs, response: {} };
}

/** An entry that is stored as it is; tests spoil one thing of it. */
export function goodEntry(over: JsonObject = {}, key: JsonObject = {}): JsonObject {
  return {
    key: { namespace: "svc.market", name: "web", instanceId: "web-1", ...key },
    targets: [{ host: "10.0.0.1", port: 8080 }],
    ...over,
  };
}
