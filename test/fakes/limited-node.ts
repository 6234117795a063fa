/** A real node that knows two tenants and an operator by their tokens, and what they ask of it. */
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { type NodeProcess, startNodeProcess } from "./node-process.ts";

export type Who = "a" | "b" | "operator";

export const TOKENS: Readonly<Record<Who, string>> = { a: "token-of-a", b: "token-of-b", operator: "token-of-operator" };
const ROLES: Readonly<Record<Who, string>> = { a: "[]", b: "[]", operator: '["mesh.admin"]' };

export interface LimitedNode extends AsyncDisposable {
  readonly process: NodeProcess;
  readonly grpc: Record<Who, Client<typeof DiscoveryService>>;
  /** One RPC as JSON at the edge. */
  post(who: Who, path: string, body: unknown): Promise<Response>;
  metrics(): Promise<string>;
}

/** `settings`: more of the settings file, in TOML. */
export async function startLimitedNode(settings: string): Promise<LimitedNode> {
  const folder = await mkdtemp(join(tmpdir(), "waymark-limits-"));
  const credentials = (Object.keys(TOKENS) as Who[]).map((who) => {
    const hash = createHash("sha256").update(TOKENS[who]).digest("hex");
    return `[[tenants.credentials]]\ntenant = "${who}"\nprincipal = "${who}-app"\ntoken_sha256 = "${hash}"\nroles = ${ROLES[who]}\n`;
  });
  const file = join(folder, "node.toml");
  await writeFile(file, `${settings}\n${credentials.join("\n")}`);
  const process = await startNodeProcess(["--config", file, "--ephemeral"]);
  const baseUrl = `http://${process.listeners["http"]}`;
  const bearer = (who: Who) => ({ authorization: `Bearer ${TOKENS[who]}` });
  const client = (who: Who) => {
    const interceptor: Interceptor = (next) => (request) => {
      for (const [name, value] of Object.entries(bearer(who))) request.header.set(name, value);
      return next(request);
    };
    return createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${process.grpc}`, interceptors: [interceptor] }));
  };
  return {
    process,
    grpc: { a: client("a"), b: client("b"), operator: client("operator") },
    post: (who, path, body) =>
      fetch(`${baseUrl}${path}`, {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "content-type": "application/json", ...bearer(who) },
      }),
    metrics: async () => (await fetch(`${baseUrl}/metrics`)).text(),
    [Symbol.asyncDispose]: async () => {
      await process[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
}

export interface Outcome {
  /** `ok`, or the reason in lower case. */
  readonly reason: string;
  readonly message: string;
  readonly retryMs: number | undefined;
  readonly facts: Readonly<Record<string, string>>;
}

/** How a call ended. Throws on what is no answer of the service. */
export async function outcomeOf(call: Promise<unknown>): Promise<Outcome> {
  try {
    await call;
    return { reason: "ok", message: "", retryMs: undefined, facts: {} };
  } catch (error) {
    const refusal = ConnectError.from(error);
    const [info] = refusal.findDetails(ErrorInfoSchema);
    if (info === undefined || refusal.code === Code.Internal) throw error;
    const [retry] = refusal.findDetails(RetryInfoSchema);
    const retryMs = retry?.retryDelay === undefined ? undefined : Number(retry.retryDelay.seconds) * 1000 + retry.retryDelay.nanos / 1e6;
    return { reason: info.reason.toLowerCase(), message: refusal.rawMessage, retryMs, facts: info.metadata };
  }
}

/** A registration of `count` entries with these instance ids. */
export function registration(namespace: string, ...instanceIds: readonly string[]) {
  return {
    entries: instanceIds.map((instanceId) => ({
      key: { namespace, name: "web", kind: 1, instanceId },
      targets: [{ host: "192.0.2.1", port: 80 }],
    })),
  };
}
