/**
 * What a node says of its DNS gateway: in `/readyz`, and to gRPC clients that ask about its health.
 *
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { some } from "../fakes/effort.ts";
import { startNodeProcess } from "../fakes/node-process.ts";

const folder = mkdtempSync(join(tmpdir(), "waymark-dns-health-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const OFF = join(folder, "off.toml");
writeFileSync(OFF, "[dns]\nenabled = false\n");

test.each(
  some([
    { what: "a node", flags: [], isOn: true },
    { what: "a node with read workers", flags: ["--workers", "2"], isOn: true },
    { what: "a node without DNS", flags: ["--config", OFF], isOn: false },
  ]),
)("$what says whether its gateway answers", async ({ flags, isOn }) => {
  await using node = await startNodeProcess(["--ephemeral", ...flags]);
  const { checks } = (await (await fetch(`http://${node.listeners["http"]}/readyz`)).json()) as { checks: readonly { name: string }[] };
  const said = checks.filter(({ name }) => name === "dns");
  expect(said).toEqual(isOn ? [{ name: "dns", ok: true, detail: `answers for waymark on ${node.listeners["dns"]}` }] : []);
  const health = createClient(Health, createGrpcTransport({ baseUrl: `http://${node.grpc}` }));
  expect((await health.check({ service: "dns" })).status).toBe(isOn ? Status.SERVING : Status.NOT_SERVING);
  expect((await health.check({ service: "" })).status).toBe(Status.SERVING);
});
