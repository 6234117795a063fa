/**
 * step-ca as the peer of our issuers, with its defaults except for the differences that this comment names.
 *
 * Made equal: a leaf with a P-256 key for 24 h, an intermediate on P-256 below a root, a new TLS connection each, one core (`GOMAXPROCS=1`, and
 * pinned), a credential that is used once, and a record of each certificate on the project's disk.
 * Not equal, for step-ca: its database is a file of its own (Badger), where our issuers write to etcd with conditions. Its client already knows the
 * root, where a newcomer of ours opens another connection to find it.
 * Not equal, for us: it parses and checks a PKCS#10 request and a JWT, where our request has a raw key and a token's secret.
 */
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeIntermediate, makeRoot } from "../../src/node/identity/ca.io.ts";
import { StepCa, type StepRequest } from "../../test/fakes/step-ca.ts";
import { until } from "../_mesh.ts";
import { peerProgram } from "../_peers.ts";
import { freePort, onServerCore, type Running, runningOf, scratchDir } from "../_processes.ts";

export interface RunningStepCa extends Running {
  /** Prepares requests, which is work of the clients. */
  requests(count: number): readonly StepRequest[];
  sign(request: StepRequest): Promise<void>;
}

/** Undefined when step-ca is not installed. */
export async function startStepCa(): Promise<RunningStepCa | undefined> {
  const program = peerProgram("step-ca");
  if (program === undefined) return undefined;
  const folder = scratchDir("step-ca");
  const root = join(folder, "root");
  makeRoot(root, "bench.internal", Date.now());
  makeIntermediate(root, { clusterId: "bench", nodeId: "step-ca" }, folder, Date.now());
  const [intermediate = ""] = readFileSync(join(folder, "identity", "issuer.pem"), "utf8").split(/(?<=-----END CERTIFICATE-----\n)/);
  const certFile = join(folder, "intermediate.pem");
  writeFileSync(certFile, intermediate);
  const at = { host: "127.0.0.1", port: await freePort() };
  const keyFile = join(folder, "identity", "issuer-key.pem");
  const server = new StepCa({ folder, port: at.port, rootFile: join(root, "root.pem"), certFile, keyFile });
  const [command, args] = onServerCore(program, [server.configFile]);
  const startedMs = performance.now();
  const child = spawn(command, args, { stdio: "ignore", env: { ...process.env, GOMAXPROCS: "1", STEPPATH: folder } });
  await until(() => server.isHealthy(), "step-ca answers");
  const request = (_: unknown, i: number) => server.request(`m-${i}`, "DNS", `m-${i}`, join(folder, `m-${i}.key`));
  return {
    ...runningOf("step-ca", child, { grpc: at, startMs: performance.now() - startedMs }),
    requests: (count) => Array.from({ length: count }, request),
    sign: async (asked) => {
      await server.sign(asked);
    },
  };
}
