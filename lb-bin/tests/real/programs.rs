//! Programs that others wrote, on either side.

use std::fs;
use std::process::Command;

use crate::harness::lb::servers;
use crate::harness::tools::{Nginx, run, run_ok, text};
use crate::harness::*;

/// nginx with a small file and a large one.
fn nginx() -> Nginx {
    let nginx = Nginx::start(
        "root @DIR@/www;\nif_modified_since before;\nlocation / { gzip on; gzip_min_length 10; gzip_types text/plain; }",
    );
    let www = nginx.path().join("www");
    fs::create_dir(&www).unwrap();
    fs::write(www.join("small.txt"), "small\n".repeat(20)).unwrap();
    fs::write(www.join("large.bin"), pattern(7, 10 << 20)).unwrap();
    nginx
}

on_both_drivers! {
    curl_against_nginx,
    curl_uploads,
    wrk_sees_no_error,
    python_uploads_in_chunks,
    a_browser_loads_a_page_with_its_parts,
}

fn curl_against_nginx(driver: Driver) {
    let nginx = nginx();
    let lb = Lb::start(driver, servers(&[("nginx", nginx.address)]));
    let base = format!("http://{}", lb.web());
    let out = lb.directory().join("out");
    let curl = |words: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "30"]).args(words);
        run_ok(&mut command)
    };
    let large = format!("{base}/large.bin");
    let path = out.display().to_string();
    curl(&["-o", &path, &large]);
    assert_same_bytes("a large file", &fs::read(&out).unwrap(), &pattern(7, 10 << 20));
    curl(&["-o", &path, "-r", "1000-1999", &large]);
    assert_same_bytes("a range", &fs::read(&out).unwrap(), &pattern(7, 10 << 20)[1000..2000]);
    assert_eq!(curl(&["--compressed", &format!("{base}/small.txt")]), "small\n".repeat(20));
    assert_eq!(curl(&["--http1.0", &format!("{base}/small.txt")]), "small\n".repeat(20));
    let head = curl(&["-I", &large]);
    assert!(head.contains(&format!("{}", 10 << 20)), "{head}");
    // Several requests on one connection.
    let small = format!("{base}/small.txt");
    let connects = curl(&[
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
        "-w",
        "%{num_connects} ",
        &small,
        &small,
        &small,
    ]);
    assert_eq!(connects.trim(), "1 0 0");
    // If-Modified-Since → 304 without a body.
    fs::write(&out, "").unwrap();
    let status = curl(&[
        "-o",
        &path,
        "-w",
        "%{http_code}",
        "-H",
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",
        &small,
    ]);
    assert_eq!(status, "304");
}

fn curl_uploads(driver: Driver) {
    let origin = Origin::answering(|request| origin::ok(&request.body));
    let lb = Lb::start(driver, lb::one_server(&origin));
    let sent = lb.directory().join("sent");
    let got = lb.directory().join("got");
    fs::write(&sent, pattern(8, 3 << 20)).unwrap();
    let target = format!("http://{}/", lb.web());
    // curl asks for 100-continue by itself for a body of this size.
    for framing in [&["-H", "X-Plain: 1"][..], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect:"]] {
        run_ok(
            Command::new("curl")
                .args(["--silent", "--show-error", "--fail", "--max-time", "30", "--data-binary"])
                .arg(format!("@{}", sent.display()))
                .args(framing)
                .arg("-o")
                .arg(&got)
                .arg(&target),
        );
        assert_same_bytes("an upload", &fs::read(&got).unwrap(), &pattern(8, 3 << 20));
    }
}

fn wrk_sees_no_error(driver: Driver) {
    let nginx = nginx();
    let lb = Lb::start(driver, servers(&[("nginx", nginx.address)]));
    for (connections, target) in [("32", "small.txt"), ("256", "small.txt"), ("8", "large.bin")] {
        let printed = run_ok(
            Command::new("wrk")
                .args(["-t", "2", "-c", connections, "-d", "2s", "--timeout", "20s"])
                .arg(format!("http://{}/{target}", lb.web())),
        );
        assert!(!printed.contains("Socket errors"), "{printed}");
        assert!(!printed.contains("Non-2xx"), "{printed}");
        let requests = printed.lines().find(|line| line.contains("requests in")).unwrap_or("0");
        let requests: u64 = requests.split_whitespace().next().unwrap().parse().unwrap();
        assert!(requests > 0, "{printed}");
    }
}

fn python_uploads_in_chunks(driver: Driver) {
    let origin = Origin::answering(|request| origin::ok(&request.body));
    let lb = Lb::start(driver, lb::one_server(&origin));
    let script = format!(
        "import http.client, os\n\
         c = http.client.HTTPConnection('127.0.0.1', {}, timeout=30)\n\
         for n in range(20):\n\
         \x20   parts = [os.urandom(1 + (i * 7919) % 50000) for i in range(n)]\n\
         \x20   c.request('POST', '/', body=iter(parts), headers={{'Transfer-Encoding': 'chunked'}}, encode_chunked=True)\n\
         \x20   r = c.getresponse()\n\
         \x20   assert r.status == 200, r.status\n\
         \x20   assert r.read() == b''.join(parts), n\n\
         print('same')\n",
        lb.web().port()
    );
    assert_eq!(run_ok(Command::new("python3").args(["-c", &script])).trim(), "same");
    assert_eq!(origin.connections(), 1);
}

fn a_browser_loads_a_page_with_its_parts(driver: Driver) {
    let nginx = nginx();
    let www = nginx.path().join("www");
    let images: String = (0..30).map(|number| format!("<img src=\"/i{number}.svg\">")).collect();
    for number in 0..30 {
        let svg =
            format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"9\"/>", number + 10);
        fs::write(www.join(format!("i{number}.svg")), svg).unwrap();
    }
    fs::write(www.join("style.css"), "#styled { color: rgb(1, 2, 3); }").unwrap();
    fs::write(
        www.join("page.js"),
        "addEventListener('load', () => {\n\
           const good = [...document.images].filter((image, at) => image.naturalWidth === at + 10).length;\n\
           const color = getComputedStyle(document.getElementById('styled')).color;\n\
           const request = new XMLHttpRequest(); request.open('GET', '/small.txt', false); request.send();\n\
           document.getElementById('verdict').textContent = `images ${good}, ${color}, fetched ${request.responseText.length}`;\n\
         });",
    )
    .unwrap();
    fs::write(
        www.join("index.html"),
        format!(
            "<!doctype html><link rel=\"stylesheet\" href=\"/style.css\"><script src=\"/page.js\" defer></script>\
             <p id=\"styled\">x</p>{images}<p id=\"verdict\">nothing yet</p>"
        ),
    )
    .unwrap();
    let lb = Lb::start(driver, servers(&[("nginx", nginx.address)]));
    let profile = lb.directory().join("profile");
    let output = run(Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--virtual-time-budget=10000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("http://{}/", lb.web())));
    let page = text(&output.stdout);
    assert!(
        page.contains("images 30, rgb(1, 2, 3), fetched 120"),
        "{page}\n{}\n{}",
        text(&output.stderr),
        lb.access_log()
    );
}
