/**
 * What a web page may do through its visitor's browser to a node with default settings: real Chromium, real node. The page
 * that rebinds its name is served by a proxy of its own, which from then on is the node: the browser cannot tell.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { type AddressInfo, connect, createServer as createTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";

const hasChromium = spawnSync("chromium", ["--version"]).status === 0;
const SERVICE = "/waymark.discovery.v1.DiscoveryService";
const ENTRY = { key: { namespace: "svc.web", name: "page", kind: 1, instanceId: "1" }, targets: [{ host: "192.0.2.1", port: 80 }] };
const REGISTER = { entries: [ENTRY] };

/** Does these requests, and leaves what came of them as the page's text. */
function pageThat(base: string): string {
  const script = `
    const said = {};
    async function post(name, path, body, options = {}) {
      try {
        const response = await fetch(${JSON.stringify(base)} + path,
          { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), ...options });
        said[name] = response.type === "opaque" ? "opaque" : response.status;
      } catch (error) {
        said[name] = error.name;
      }
    }
    await post("read", "${SERVICE}/CatalogQuery", {});
    await post("write", "${SERVICE}/Register", ${JSON.stringify(REGISTER)});
    await post("blind", "${SERVICE}/Register", ${JSON.stringify(REGISTER)}, { mode: "no-cors", headers: { "content-type": "text/plain" } });
    await post("policy", "/waymark.policy.v1.PolicyService/ApplyPolicy", {});
    document.body.textContent = "said " + JSON.stringify(said) + " end";`;
  return `<!doctype html><body><script type="module">${script}</script></body>`;
}

function listen(server: Server | ReturnType<typeof createTcp>): Promise<number> {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)));
}

const PAGE_TYPE = { "content-type": "text/html", "cache-control": "no-store", connection: "close" } as const;

let folder: string;
const servers: { close(): unknown }[] = [];
const sockets = new Set<Socket>();
const pages = new Map<string, string>();
let listedPort: number;
let node: NodeProcess | undefined;
let nodePort: number;

async function servePages(): Promise<number> {
  const server = createServer((request: IncomingMessage, response) => {
    response.writeHead(200, PAGE_TYPE).end(pages.get(request.url ?? "") ?? "");
  });
  servers.push(server);
  return listen(server);
}

beforeAll(async () => {
  if (!hasChromium) return;
  folder = await mkdtemp(join(tmpdir(), "waymark-browser-"));
  listedPort = await servePages();
  const setting = join(folder, "node.toml");
  await writeFile(setting, `[listen]\ncors_origins = ["http://localhost:${listedPort}"]\n`);
  node = await startNodeProcess(["--config", setting, "--ephemeral"]);
  nodePort = Number(node.listeners["http"]?.split(":").at(-1));
});

afterAll(async () => {
  for (const server of servers) server.close();
  for (const socket of sockets) socket.destroy();
  await node?.[Symbol.asyncDispose]();
  if (hasChromium) await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

/** Opens a page in a browser for which every name is this machine, and reads what it left. */
async function visited(url: string, name: string): Promise<Record<string, unknown>> {
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * 127.0.0.1"];
  const browser = spawn(
    "chromium",
    [...flags, `--user-data-dir=${join(folder, name)}`, "--timeout=20000", "--virtual-time-budget=15000", "--dump-dom", url],
    {
      stdio: ["ignore", "pipe", "ignore"],
    },
  );
  let dom = "";
  for await (const chunk of browser.stdout.setEncoding("utf8")) dom += String(chunk);
  const said = /said (\{.*?\}) end/.exec(dom)?.[1];
  if (said === undefined) throw new Error(`the page left nothing: ${dom.slice(0, 500)}`);
  return JSON.parse(said) as Record<string, unknown>;
}

/** How many entries there are, asked without a browser. */
async function entryCount(): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${nodePort}${SERVICE}/CatalogQuery`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ namespace: "svc.web" }),
  });
  const { items = [] } = (await response.json()) as { readonly items?: readonly unknown[] };
  return items.length;
}

test.skipIf(!hasChromium)("a page whose name becomes our address may neither read nor write (DNS rebinding)", async () => {
  let isNode = false;
  const front = createTcp((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    // Browsers open connections before they need them: what counts is the first request.
    socket.once("data", (first) => {
      if (isNode) {
        const there = connect({ host: "127.0.0.1", port: nodePort });
        sockets.add(there);
        there.on("error", () => {});
        there.write(first);
        socket.pipe(there).pipe(socket);
        return;
      }
      isNode = true;
      const body = pageThat("");
      socket.end(
        `HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
      );
    });
  });
  servers.push(front);
  const port = await listen(front);
  const said = await visited(`http://evil.example:${port}/`, "rebinding");
  expect(said).toEqual({ read: 403, write: 403, blind: 403, policy: 403 });
  expect(await entryCount()).toBe(0);
});

test.skipIf(!hasChromium)("a page of another origin may neither read nor write", async () => {
  const port = await servePages();
  pages.set("/foreign", pageThat(`http://127.0.0.1:${nodePort}`));
  const said = await visited(`http://evil.example:${port}/foreign`, "foreign");
  expect(said).toEqual({ read: "TypeError", write: "TypeError", blind: "opaque", policy: "TypeError" });
  expect(await entryCount()).toBe(0);
});

test.skipIf(!hasChromium)("a page of a listed origin may do both", async () => {
  pages.set("/listed", pageThat(`http://localhost:${nodePort}`));
  const said = await visited(`http://localhost:${listedPort}/listed`, "listed");
  expect(said).toMatchObject({ read: 200, write: 200, blind: "opaque" });
  expect([403, "TypeError"]).not.toContain(said["policy"]);
  expect(await entryCount()).toBe(1);
});
