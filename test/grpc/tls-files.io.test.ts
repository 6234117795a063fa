/** The watch on certificate files: a change is applied once, a failure keeps what is there. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { watchTls } from "../../src/grpc/server/tls-files.io.ts";
import { until } from "../fakes/until.ts";

test("files that were replaced are read again without being told, and files that vanished are reported", async () => {
  const folder = mkdtempSync(join(tmpdir(), "waymark-tls-watch-"));
  const files = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  writeFileSync(files.certFile, "cert 1");
  writeFileSync(files.keyFile, "key 1");
  const applied: string[] = [];
  const errors: unknown[] = [];
  const watch = watchTls(files, ({ cert, key }) => void applied.push(`${Buffer.from(cert).toString()}, ${Buffer.from(key).toString()}`), {
    onReload: () => {},
    onError: (error) => void errors.push(error),
    pollMs: 5,
  });
  writeFileSync(join(folder, "new.pem"), "cert 2");
  renameSync(join(folder, "new.pem"), files.certFile);
  await until("the new certificate is applied", () => applied.includes("cert 2, key 1"));
  rmSync(files.keyFile);
  await until("the missing key is reported", () => errors.length > 0);
  expect(applied).toEqual(["cert 2, key 1"]);
  watch.stop();
  rmSync(folder, { recursive: true });
});

test("authorities that are none when they are read again are reported, and none of the files is taken", () => {
  const folder = mkdtempSync(join(tmpdir(), "waymark-tls-authorities-"));
  const files = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem"), clientCaFile: join(folder, "ca.pem") };
  for (const path of Object.values(files)) writeFileSync(path, "half written");
  const heard: string[] = [];
  const watch = watchTls(files, () => void heard.push("applied"), {
    onReload: () => {},
    onError: (error) => void heard.push(String(error)),
  });
  watch.reload();
  expect(heard).toEqual([`Error: tls.ca_file: ${files.clientCaFile} contains no certificate in PEM format`]);
  watch.stop();
  rmSync(folder, { recursive: true });
});
