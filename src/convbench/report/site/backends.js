'use strict';

/* The tab "Backends". Whatever comes from backends.json is put into the page as text, never as
   HTML: every element is made by make() below. convbench.side_by_side writes the same as a page
   without a script. */
$(document).ready(function() {
    var display = $('<div id="backends-display" class="convbench"/>').hide().appendTo('body');
    var loaded = null;

    function make(tag, text, kind) {
        var element = $(document.createElement(tag));
        if (text !== undefined) {
            element.text(text);
        }
        if (kind) {
            element.addClass(kind);
        }
        return element;
    }

    function words(suite, cell, baseline) {
        var parts = [];
        if (cell.status !== 'ok') {
            parts.push(make('span', cell.status, 'status'));
        }
        if (cell.time) {
            parts.push(make('span', cell.time, cell.counts ? 'time' : 'void'));
        }
        if (cell.counts && cell.spread) {
            parts.push(make('span', cell.spread, 'spread'));
        }
        if (cell.speed_ups[baseline]) {
            parts.push(make('span', cell.speed_ups[baseline], 'speedup'));
        }
        if (cell.time && cell.claim) {
            parts.push(make('span', 'claim', 'claim'));
        }
        if (cell.gate) {
            parts.push(make('span', 'side by side', 'gate'));
        }
        if (suite.checked && cell.status !== 'skipped') {
            parts.push(make('span', cell.error ? 'error ' + cell.error : 'not checked', 'error'));
        }
        return parts;
    }

    /* asv's graph of all targets over the commits */
    function history(line, name) {
        var benchmark = $.asv.main_json.benchmarks[line.benchmark];
        var params = {};
        if (!benchmark) {
            return make('span', name);
        }
        $.each(benchmark.param_names, function(i, param) {
            var value = {workload: line.workload, stage: line.stage}[param];
            if (value) {
                params['p-' + param] = ["'" + value + "'"];
            }
        });
        return make('a', name).attr('href', $.asv.format_hash_string({
            location: [line.benchmark], params: params
        }));
    }

    function make_table(section, suite, baseline) {
        var table = make('table');
        var head = make('tr').append(make('th', 'workload'));
        var body = make('tbody');
        var column = section.targets.indexOf(baseline);
        $.each(section.targets, function(i, target) {
            head.append(make('th', target + (i === column ? ' (baseline)' : '')));
        });
        $.each(suite.lines, function(i, line) {
            var name = line.workload + (line.stage ? ' ' + line.stage : '');
            var tr = make('tr').append(make('th').append(history(line, name)));
            $.each(line.cells, function(j, cell) {
                var td = make('td');
                if (cell) {
                    td.addClass(cell.status).toggleClass('fastest', cell.fastest).append(words(suite, cell, baseline));
                    var why = cell.reasons.concat(cell.gate || []);
                    if (why.length) {
                        td.attr('title', why.join('\n'));
                    }
                }
                tr.append(td);
            });
            body.append(tr);
        });
        return make('div', undefined, 'wide').append(
            table.append(make('thead').append(head), body));
    }

    function make_section(section, wanted) {
        var baseline = section.targets.indexOf(wanted) < 0 ? section.baseline : wanted;
        var all = make('div').append(make('h2', section.name));
        $.each(section.measured_with, function(i, text) {
            all.append(make('p', text, 'with'));
        });
        $.each(section.suites, function(i, suite) {
            all.append(make('h3', suite.name), make_table(section, suite, baseline));
        });
        if (section.causes.length) {
            var list = make('dl');
            $.each(section.causes, function(i, why) {
                list.append(make('dt', why.status + ': ' + why.where, why.status));
                $.each([why.reason, why.remedy], function(j, text) {
                    if (text) {
                        list.append(make('dd', text));
                    }
                });
            });
            all.append(make('h3', 'What is wrong, failed or skipped, and why'), list);
        }
        return all;
    }

    function make_chooser(sections, wanted) {
        var select = make('select');
        var targets = {};
        $.each(sections, function(i, section) {
            $.each(section.targets, function(j, target) { targets[target] = true; });
        });
        $.each(Object.keys(targets), function(i, target) {
            select.append(make('option', target).attr('value', target));
        });
        select.val(wanted).on('change', function() {
            window.location.hash = $.asv.format_hash_string(
                {location: ['backends'], params: {baseline: [select.val()]}});
        });
        return make('label', 'Speed-ups are over ').append(select);
    }

    function draw(document_, wanted) {
        var first = document_.sections[0];
        display.empty();
        display.append(make('p', document_.legend));
        display.append(make('p').append(
            make('a', 'The same without a script').attr('href', 'backends.html')));
        if (!first) {
            display.append(make('p', 'Nothing has been measured.'));
        } else {
            display.append(make_chooser(document_.sections, wanted || first.baseline));
        }
        $.each(document_.sections, function(i, section) {
            display.append(make_section(section, wanted || section.baseline));
        });
        if (document_.problems.length) {
            var list = make('ul');
            $.each(document_.problems, function(i, problem) { list.append(make('li', problem)); });
            display.append(make('h2', 'What could not be read'), list);
        }
    }

    /* asv hides its own pages when another is shown, and does not know of this one. */
    $(window).on('hashchange', function() {
        if ($.asv.parse_hash_string(window.location.hash).location[0] !== 'backends') {
            display.hide();
            $('body').removeClass('backends-shown');
        }
    });

    $.asv.register_page('backends', function(params) {
        var wanted = params.baseline ? params.baseline[0] : null;
        $('#title').text('Backends');
        // asv's bar is higher the narrower the window; on a phone it is scrolled with the page.
        $('body').addClass('backends-shown');
        display.css('top', $('#nav').outerHeight() + 5).show();
        if (loaded) {
            draw(loaded, wanted);
            return;
        }
        $.ajax({
            url: 'backends.json?timestamp=' + $.asv.main_timestamp, dataType: 'json', cache: true
        }).done(function(data) {
            loaded = data;
            draw(loaded, wanted);
        }).fail(function() {
            $.asv.ui.network_error();
        });
    });
});
