/**
 * Writes `waymark-VERSION.cdx.json`: a CycloneDX list of what a production install holds, with the hash of each package, for a release.
 * `npm sbom --omit=dev` leaves out packages that a tool of the development needs too, so the list is made of an install that has no tools.
 * An argument names the folder it goes to; without one it goes to the project's.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { mustRun, ROOT } from "./run.ts";

interface Manifest {
  readonly version: string;
  devDependencies?: Readonly<Record<string, string>>;
}

const parent = mkdtempSync(join(tmpdir(), "waymark-sbom-"));
// npm names the list after the folder.
const folder = join(parent, "waymark");
try {
  mkdirSync(folder);
  for (const file of ["package.json", "package-lock.json", ".npmrc"]) cpSync(join(ROOT, file), join(folder, file));
  await mustRun("npm", ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: folder });
  const path = join(folder, "package.json");
  const manifest = JSON.parse(readFileSync(path, "utf8")) as Manifest;
  const { devDependencies: _tools, ...rest } = manifest;
  writeFileSync(path, JSON.stringify(rest));
  const sbom = await mustRun("npm", ["sbom", "--silent", "--sbom-format=cyclonedx", "--sbom-type=application"], { cwd: folder });
  const file = join(resolve(process.argv[2] ?? ROOT), `waymark-${manifest.version}.cdx.json`);
  writeFileSync(file, sbom);
  console.log(`${file} is ready`);
} finally {
  rmSync(parent, { recursive: true, force: true });
}
