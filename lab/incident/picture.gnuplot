# Draw both root disks over time. -e sets the variables: directory (of the data), title, last (second).
# The colours are Okabe and Ito's: colour-blind people can distinguish them.
set title title font ",15"
set xlabel "seconds since the build began"
set ylabel "used, % of the filesystem"
set xrange [-20:last]
set yrange [0:155]
set ytics ("0" 0, "20" 20, "40" 40, "60" 60, "80" 80, "100" 100)
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror out
set key outside bottom center horizontal samplen 3 width -4
set bmargin 5
set style data lines

red = 0xD55E00
blue = 0x0072B2

events(machine) = directory . "/" . machine . "-events.dat"
set arrow from graph 0, first 100 to graph 1, first 100 nohead lc rgb "#888888" lw 1
set arrow from graph 0, first 95 to graph 1, first 95 nohead lc rgb "#888888" lw 1 dt 3
set label "the rest is root's" at graph 1, first 97.3 right font ",8" textcolor rgb "#666666"

plot \
    events("before") using 1:(0):(0):(100) with vectors nohead lc rgb red lw 0.5 dt 3 notitle, \
    events("before") using 1:(100):($2-$1):(3) with vectors nohead lc rgb red lw 0.5 notitle, \
    events("before") using 2:(104):3 with labels rotate left font ",10" textcolor rgb red notitle, \
    events("after") using 2:(2):3 with labels rotate left font ",10" textcolor rgb blue notitle, \
    events("after") using 1:(0):($2-$1):(2) with vectors nohead lc rgb blue lw 0.5 notitle, \
    directory . "/after-volume.dat" using 1:2 lc rgb blue lw 1.2 dt 2 title "provisioned: Docker's volume", \
    directory . "/after-root.dat" using 1:2 lc rgb blue lw 3 title "provisioned: root", \
    directory . "/before-root.dat" using 1:2 lc rgb red lw 3 title "as it was: root"
