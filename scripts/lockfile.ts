/**
 * Completes package-lock.json: run after every change of dependencies. npm leaves out of the lockfile what a registry does not
 * offer (some carry the binaries of their own platforms only), and then `npm ci` refuses the lockfile on every machine. What is
 * missing are optional packages, one a platform, pinned exactly by their parents; npm fetches the one that fits and skips the rest.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./run.ts";
import { type Lockfile, missingOptional } from "./tidy.ts";

const SYSTEMS = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"];
const CPUS: Readonly<Record<string, string>> = { aarch64: "arm64", armv7: "arm", wasm32: "wasm32" };
const KNOWN_CPUS = ["arm", "arm64", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"];

/** What the name of a package of one platform says of it: `@oxlint/binding-linux-x64-musl`. */
function platformOf(name: string): Readonly<Record<string, readonly string[]>> {
  const words = name.split(/[-/]/);
  const os = words.filter((word) => SYSTEMS.includes(word));
  const cpu = words.flatMap((word) => CPUS[word] ?? (KNOWN_CPUS.includes(word) ? word : []));
  if (os.length !== 1 || cpu.length !== 1) throw new Error(`${name}: cannot tell its platform; add it to scripts/lockfile.ts`);
  const libc = words.includes("musl") ? ["musl"] : words.includes("gnu") ? ["glibc"] : undefined;
  return { cpu, ...(libc === undefined ? {} : { libc }), os };
}

const file = join(ROOT, "package-lock.json");
const lockfile = JSON.parse(readFileSync(file, "utf8")) as Lockfile;
const missing = missingOptional(lockfile);
const added = missing.map(({ name, version, isDev }) => {
  if (!/^\d+\.\d+\.\d+$/.test(version)) throw new Error(`${name}: its parent wants ${version}, which is no exact version`);
  return [`node_modules/${name}`, { version, ...platformOf(name), ...(isDev ? { dev: true } : {}), optional: true }] as const;
});
const { "": project, ...packages } = { ...lockfile.packages, ...Object.fromEntries(added) };
const sorted = Object.fromEntries(Object.entries(packages).toSorted(([a], [b]) => (a < b ? -1 : 1)));
if (added.length > 0) writeFileSync(file, `${JSON.stringify({ ...lockfile, packages: { "": project, ...sorted } }, undefined, 2)}\n`);
console.log(added.length === 0 ? "the lockfile is complete" : `added ${added.length} packages of other platforms to the lockfile`);
