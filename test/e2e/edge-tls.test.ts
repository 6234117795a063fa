/** The HTTP edge with certificates: ALPN, client certificates, broken handshakes, renewal. */
import { readFileSync, writeFileSync } from "node:fs";
import { connect, type SecureContextOptions } from "node:tls";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { serverFiles } from "../fakes/certificate.ts";
import { type DemoEdge, RawClient, startDemoEdge } from "../fakes/edge.ts";
import { until } from "../fakes/until.ts";

function queried(served: DemoEdge, httpVersion: "1.1" | "2", nodeOptions: SecureContextOptions): Promise<string> {
  const client = createClient(DiscoveryService, createConnectTransport({ baseUrl: served.base, httpVersion, nodeOptions }));
  return client.catalogQuery({ namespace: "svc" }).then(({ servedBy }) => servedBy);
}

test.each([
  { httpVersion: "1.1" as const, transport: "http1" },
  { httpVersion: "2" as const, transport: "h2" },
])("HTTP/$httpVersion is chosen by ALPN", async ({ httpVersion, transport }) => {
  const files = serverFiles();
  await using served = await startDemoEdge({ listener: { tls: files } });
  expect(await queried(served, httpVersion, { ca: files.authority.cert })).toBe("svc");
  expect(served.on.observed).toMatchObject([{ transport }]);
});

test("with a client authority only its clients are let in", async () => {
  const files = serverFiles();
  await using served = await startDemoEdge({ listener: { tls: { ...files, clientCaFile: files.caFile } } });
  const ca = files.authority.cert;
  expect(await queried(served, "2", { ca, ...files.authority.issue("client") })).toBe("svc");
  await expect(queried(served, "2", { ca })).rejects.toThrow(/^\[(unavailable|aborted|internal|canceled)\]/);
  await expect(queried(served, "2", { ca, ...serverFiles().authority.issue("stranger") })).rejects.toThrow(
    /^\[(unavailable|aborted|internal|canceled)\]/,
  );
});

test("plain text, old TLS and half a handshake end nothing but themselves", async () => {
  const files = serverFiles();
  await using served = await startDemoEdge({ listener: { tls: files } });
  await using plain = new RawClient(served.edge);
  plain.send("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n");
  await plain.closed("the connection without TLS");
  await using half = new RawClient(served.edge);
  half.send(Buffer.from("1603010200", "hex"));
  half.socket.destroy();
  const old = connect({
    host: served.edge.acceptor.host,
    port: served.edge.acceptor.port,
    maxVersion: "TLSv1.1",
    minVersion: "TLSv1.1",
    ca: files.authority.cert,
  });
  const refused = Promise.withResolvers<string>();
  old.on("error", (error: Error) => refused.resolve(error.message)).on("secureConnect", () => refused.resolve("let in"));
  expect(await refused.promise).not.toBe("let in");
  expect(await queried(served, "1.1", { ca: files.authority.cert })).toBe("svc");
  const failed = served.metrics.counter("waymark_connections_refused_total", { listener: "http", reason: "handshake" });
  // The one that left in the middle may have been gone before a byte of it was read.
  await until("those that were refused are counted", () => failed.value >= 2);
});

test("renewed certificates are used from the next connection on, broken ones are not", async () => {
  const files = serverFiles();
  const warnings: string[] = [];
  const log = { info: () => {}, warn: (_facts: unknown, event: string) => void warnings.push(event) };
  await using served = await startDemoEdge({ listener: { tls: files, log } });
  const renewed = files.authority.issue("renewed");
  writeFileSync(files.certFile, renewed.cert);
  served.edge.acceptor.reloadTls();
  expect(warnings).toEqual(["certificate reload failed, keeping the current certificates"]);
  expect(await subjectOf(served, files.caFile)).toBe("localhost");
  writeFileSync(files.keyFile, renewed.key);
  served.edge.acceptor.reloadTls();
  expect(await subjectOf(served, files.caFile)).toBe("renewed");
});

test("a request that comes while an answer waits to be taken is answered after it", async () => {
  const files = serverFiles();
  const sources = { scrape: () => Promise.resolve({ contentType: "text/plain", body: "x".repeat(16 * 1_024 * 1_024) }) };
  await using served = await startDemoEdge({ listener: { tls: files }, sources });
  const { host, port } = served.edge.acceptor;
  const socket = connect({ host, port, ca: readFileSync(files.caFile) });
  let end = "";
  socket.on("data", (chunk: Buffer) => {
    if (end === "") socket.pause();
    end = (end + chunk.subarray(-2_000).toString("latin1")).slice(-2_000);
  });
  socket.write("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
  await until("the answer begins", () => end !== "");
  // Longer than a record of TLS, so that the node decrypts more than one from what it reads at once.
  const body = `{"namespace":"svc"}${" ".repeat(40_000)}`;
  const head = `POST /waymark.discovery.v1.DiscoveryService/CatalogQuery HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n`;
  socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`, () => socket.resume());
  await until("the second answer", () => end.includes('"servedBy":"svc"') || socket.destroyed);
  socket.destroy();
  expect(end).toContain('"servedBy":"svc"');
});

async function subjectOf({ edge }: DemoEdge, caFile: string): Promise<string> {
  const socket = connect({ host: edge.acceptor.host, port: edge.acceptor.port, ca: readFileSync(caFile) });
  await until("the handshake", () => socket.authorized);
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return String(subject.CN);
}
