/** Passwords and certificates. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ControlStore } from "../../../src/store/control/store.ts";
import type { EtcdOptions } from "../../../src/store/etcd/client.io.ts";
import { openEtcdStore } from "../../../src/store/etcd/store.io.ts";
import { newAuthority, serverFiles } from "../../fakes/certificate.ts";
import { EtcdCluster, isEtcdThere } from "../../fakes/etcd.ts";
import { until } from "../../fakes/until.ts";

const PREFIX = "/waymark/access/";
const directory = mkdtempSync(join(tmpdir(), "waymark-etcd-access-"));
const bytes = (text: string) => new TextEncoder().encode(text);
const base64 = (text: string) => Buffer.from(text).toString("base64");
const unavailable = (text: RegExp | string) => ({ reason: "store_unavailable", message: expect.stringMatching(text) as string });

function fileWith(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

describe.runIf(isEtcdThere())("etcd with users", () => {
  let etcd: EtcdCluster;
  const open = (options: Partial<EtcdOptions>): ControlStore =>
    openEtcdStore({ endpoints: etcd.endpoints, prefix: PREFIX, timeoutMs: 5000, ...options });
  let passwordFile: string;
  let rootToken = "";

  /** Gives the user of a store the right to change the keys of this prefix. */
  async function grant(user: string, prefix: string): Promise<void> {
    const end = `${prefix.slice(0, -1)}${String.fromCodePoint((prefix.codePointAt(prefix.length - 1) ?? 0) + 1)}`;
    await etcd.post("auth/role/add", { name: user }, rootToken);
    const perm = { permType: "READWRITE", key: base64(prefix), range_end: base64(end) };
    await etcd.post("auth/role/grant", { name: user, perm }, rootToken);
    await etcd.post("auth/user/grant", { user, role: user }, rootToken);
  }

  beforeAll(async () => {
    etcd = await EtcdCluster.start({ flags: ["--bcrypt-cost=4"] });
    passwordFile = fileWith("password", "first\n");
    for (const [name, password] of [
      ["root", "root"],
      ["waymark", "first"],
    ])
      await etcd.post("auth/user/add", { name, password });
    await grant("waymark", PREFIX);
    await etcd.post("auth/role/add", { name: "root" });
    await etcd.post("auth/user/grant", { user: "root", role: "root" });
  });
  afterAll(() => etcd[Symbol.asyncDispose]());

  test("a user is accepted before etcd requires users, and is authenticated when it does", async () => {
    await using store = open({ user: "waymark", passwordFile });
    const { version } = await store.compareAndSwap("a", 0, bytes("1"));
    await etcd.post("auth/enable", {});
    rootToken = String((await etcd.post("auth/authenticate", { name: "root", password: "root" }))["token"]);
    expect(await store.compareAndSwap("a", version, bytes("2"))).toMatchObject({ isSwapped: true });
    using watch = store.watch("");
    expect(await watch.next()).toMatchObject({ isReset: true, changes: [{ key: "a" }] });
  });

  test("a store without a user is refused, and the error says which settings are missing", async () => {
    await using store = open({});
    await expect(store.get("a")).rejects.toMatchObject(unavailable(/user name is empty.*store\.user/));
  });

  test("a wrong password is named, and a corrected file needs no restart", async () => {
    const file = fileWith("wrong", "wrong");
    await using store = open({ user: "waymark", passwordFile: file });
    const says = "etcdserver: authentication failed, invalid user ID or password";
    await expect(store.get("a")).rejects.toMatchObject(unavailable(`^store_unavailable: etcd ${etcd.endpoints[0]}: ${says}`));
    writeFileSync(file, "first");
    expect(await store.get("a")).toMatchObject({ key: "a" });
  });

  test("after a change of roles, requests and watches continue with a new token", async () => {
    await using store = open({ user: "waymark", passwordFile });
    const version = (await store.get("a"))?.version ?? 0;
    using watch = store.watch("");
    expect(await watch.next()).toMatchObject({ isReset: true, changes: [{ key: "a", version }] });
    await etcd.post("auth/role/add", { name: "other" }, rootToken);
    const next = await store.compareAndSwap("a", version, bytes("3"));
    expect(next.isSwapped).toBe(true);
    expect(await watch.next()).toMatchObject({ changes: [{ key: "a", version: next.version }] });
  });

  test("keys outside of the user's role are refused", async () => {
    await using store = open({ user: "waymark", passwordFile, prefix: "/other/" });
    await expect(store.get("a")).rejects.toMatchObject(unavailable("etcdserver: permission denied"));
    using watch = store.watch("");
    await expect(watch.next()).rejects.toMatchObject(unavailable("permission denied"));
  });
});

describe.runIf(isEtcdThere())("etcd with certificates", () => {
  const server = serverFiles();
  const { caFile } = server;
  let etcd: EtcdCluster;
  beforeAll(async () => {
    etcd = await EtcdCluster.start({ tls: server });
  });
  afterAll(() => etcd[Symbol.asyncDispose]());
  const open = (tls: EtcdOptions["tls"]): ControlStore =>
    openEtcdStore({ endpoints: etcd.endpoints, prefix: PREFIX, timeoutMs: 5000, tls });

  test("a client with a certificate of the trusted CA is accepted, and renewed files need no restart", async () => {
    const { cert, key } = newAuthority().issue("stranger");
    const [certFile, keyFile] = [fileWith("client.pem", cert), fileWith("client.key", key)];
    await using store = open({ caFile, certFile, keyFile });
    await expect(store.get("a")).rejects.toMatchObject(unavailable(/rejected the TLS handshake|closed|lost|ECONNRESET/));
    const renewed = server.authority.issue("waymark");
    writeFileSync(certFile, renewed.cert);
    await expect(store.get("a")).rejects.toMatchObject(unavailable("store.cert_file, store.key_file: .*key values mismatch"));
    writeFileSync(keyFile, renewed.key);
    await until("the renewed certificate is accepted", async () => (await store.list("")).revision > 0);
  });

  test("a client without a certificate is refused", async () => {
    await using store = open({ caFile });
    await expect(store.get("a")).rejects.toMatchObject(unavailable(/rejected the TLS handshake|closed|lost|ECONNRESET/));
  });

  test("a server whose certificate another CA signed is not trusted, and the setting is named", async () => {
    await using store = open({ caFile: fileWith("other-ca.pem", newAuthority().cert) });
    await expect(store.get("a")).rejects.toMatchObject(unavailable("not signed by a trusted CA: store.ca_file must contain the CA"));
  });
});
