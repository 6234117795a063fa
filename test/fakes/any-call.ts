/** Calls of any rpc with any credential, through gRPC and through the HTTP edge; what comes back is a status and, for unary calls, JSON. */
import { connect as connectHttp2 } from "node:http2";
import { request as requestHttps } from "node:https";
import {
  type DescMethod,
  fromBinary,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Registry,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import {
  type CallOptions,
  type ChannelCredentials,
  Client,
  compressionAlgorithms,
  credentials,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import { codeName } from "../../src/lib/errors.ts";
import { textOf } from "./node.ts";

export interface Outcome {
  /** Name of a gRPC status. */
  readonly code: string;
  readonly message: string;
  readonly response: JsonObject;
}

export type Headers = Readonly<Record<string, string>>;

/** A client certificate and the authority of the server, as PEM. */
export interface ClientTls {
  readonly ca: string;
  readonly leaf?: { readonly cert: string; readonly key: string } | undefined;
}

const CALL_MS = 30_000;
const raw = (bytes: Buffer): Buffer => bytes;

export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

export class AnyClient implements Disposable {
  readonly #client: Client;

  constructor(address: string, options: { readonly tls?: ClientTls; readonly isCompressed?: boolean } = {}) {
    const compression = options.isCompressed === true ? { "grpc.default_compression_algorithm": compressionAlgorithms.gzip } : {};
    this.#client = new Client(address, credentialsOf(options.tls), {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.enable_http_proxy": 0,
      ...compression,
    });
  }

  /** One call; of a stream the first message, or its refusal. */
  call(method: DescMethod, request: JsonValue = {}, headers: Headers = {}): Promise<Outcome> {
    const bytes = Buffer.from(toBinary(method.input, fromJson(method.input, request)));
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    const options = { deadline: Date.now() + CALL_MS };
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    const path = pathOf(method);
    if (method.methodKind === "unary") {
      this.#client.makeUnaryRequest(path, raw, raw, bytes, metadata, options, (error, answer) => {
        resolve(answer === undefined ? outcomeOf(error) : { ...OK, response: jsonOf(method, answer) });
      });
      return promise;
    }
    const stream = this.#open(method, bytes, metadata, options);
    stream.on("error", (error: ServiceError) => resolve(outcomeOf(error)));
    stream.on("data", (answer: Buffer) => {
      resolve({ ...OK, response: jsonOf(method, answer) });
      stream.cancel();
    });
    return promise;
  }

  /** Opens a stream and waits for its end; resolves with the message of what ended it. */
  ending(method: DescMethod, request: JsonValue, headers: Headers): Promise<string> {
    const bytes = Buffer.from(toBinary(method.input, fromJson(method.input, request)));
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    const stream = this.#open(method, bytes, metadata, { deadline: Date.now() + CALL_MS });
    stream.on("data", () => {});
    const { promise, resolve } = Promise.withResolvers<string>();
    stream.on("error", (error: ServiceError) => resolve(error.details));
    stream.on("end", () => resolve("ended without an error"));
    return promise;
  }

  /** Opens a stream and leaves it open; resolves with what ends it once its first message came. */
  hold(method: DescMethod, request: JsonValue): Promise<() => void> {
    const bytes = Buffer.from(toBinary(method.input, fromJson(method.input, request)));
    const stream = this.#open(method, bytes, new Metadata(), { deadline: Date.now() + CALL_MS });
    stream.on("error", () => {}); // Its own end.
    const { promise, resolve } = Promise.withResolvers<() => void>();
    stream.once("data", () => resolve(() => stream.cancel()));
    return promise;
  }

  #open(method: DescMethod, bytes: Buffer, metadata: Metadata, options: CallOptions) {
    const path = pathOf(method);
    if (method.methodKind === "server_streaming") return this.#client.makeServerStreamRequest(path, raw, raw, bytes, metadata, options);
    const stream = this.#client.makeBidiStreamRequest(path, raw, raw, metadata, options);
    stream.write(bytes);
    return stream;
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

const OK = { code: "OK", message: "", response: {} } as const;

function credentialsOf(tls: ClientTls | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const { ca, leaf } = tls;
  if (leaf === undefined) return credentials.createSsl(Buffer.from(ca));
  return credentials.createSsl(Buffer.from(ca), Buffer.from(leaf.key), Buffer.from(leaf.cert));
}

function outcomeOf(error: ServiceError | null): Outcome {
  return { code: codeName(error?.code ?? 2), message: error?.details ?? "", response: {} };
}

function jsonOf(method: DescMethod, bytes: Uint8Array): JsonObject {
  const json = toJson(method.output, fromBinary(method.output, bytes));
  return typeof json === "object" && json !== null && !Array.isArray(json) ? json : {};
}

/** One unary call as Connect/JSON. */
export async function callHttp(
  base: string,
  method: DescMethod,
  headers: Headers = {},
  request: JsonValue = {},
): Promise<Outcome & { readonly status: number }> {
  const reply = await fetch(`${base}${pathOf(method)}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(request),
    signal: AbortSignal.timeout(CALL_MS),
  });
  const body = (await reply.json()) as JsonObject;
  if (reply.status === 200) return { ...OK, response: body, status: 200 };
  return { code: textOf(body["code"]).toUpperCase(), message: textOf(body["message"]), response: {}, status: reply.status };
}

/** A server stream as Connect/JSON, read to its end: all that came, as text. */
export async function streamOverConnect(base: string, method: DescMethod, headers: Headers): Promise<string> {
  return (await openOverConnect(base, method, headers)).text();
}

/** A server stream as Connect/JSON, which has begun. */
export function openOverConnect(base: string, method: DescMethod, headers: Headers): Promise<Response> {
  const head = Buffer.from([0, 0, 0, 0, 2]);
  return fetch(`${base}${pathOf(method)}`, {
    method: "POST",
    headers: { "content-type": "application/connect+json", ...headers },
    body: Buffer.concat([head, Buffer.from("{}")]),
    signal: AbortSignal.timeout(CALL_MS),
  });
}

/** One request over TLS, as HTTP/1.1 or HTTP/2. */
export function callHttps(
  address: string,
  call: { readonly path: string; readonly tls: ClientTls; readonly version: 1 | 2; readonly body?: string; readonly headers?: Headers },
) {
  return call.version === 1 ? overHttp1(address, call) : overHttp2(address, call);
}

type HttpsCall = Parameters<typeof callHttps>[1];

function overHttp1(address: string, { path, tls, body, headers }: HttpsCall): Promise<{ readonly status: number; readonly body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>();
  const [host = "", port = ""] = address.split(":");
  const method = body === undefined ? "GET" : "POST";
  const options = {
    host,
    port,
    path,
    method,
    ca: tls.ca,
    ...tls.leaf,
    headers: { "content-type": "application/json", ...headers },
    agent: false as const,
  };
  const request = requestHttps(options, (response) => {
    let text = "";
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => (text += chunk));
    response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
  });
  request.on("error", reject);
  request.end(body);
  return promise;
}

function overHttp2(address: string, { path, tls, body, headers }: HttpsCall): Promise<{ readonly status: number; readonly body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>();
  const session = connectHttp2(`https://${address}`, { ca: tls.ca, ...tls.leaf });
  session.on("error", reject);
  const stream = session.request({
    ":path": path,
    ":method": body === undefined ? "GET" : "POST",
    "content-type": "application/json",
    ...headers,
  });
  let status = 0;
  let text = "";
  stream.setEncoding("utf8");
  stream.on("response", (head) => (status = Number(head[":status"])));
  stream.on("data", (chunk: string) => (text += chunk));
  stream.on("error", reject);
  stream.on("end", () => {
    session.close();
    resolve({ status, body: text });
  });
  stream.end(body);
  return promise;
}

/** Rpcs of the public listeners. */
export function publicMethods(registry: Registry): readonly DescMethod[] {
  const services = [...registry].filter((desc) => desc.kind === "service");
  return services
    .filter(({ typeName }) => /^waymark\.(?!fabric\.|control\.v1\.JoinService$)/.test(typeName))
    .flatMap(({ methods }) => methods);
}
